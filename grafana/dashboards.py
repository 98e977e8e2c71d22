#!/usr/bin/env python3
"""The dashboards as code: each function is one file under `grafana/dashboards/`.

Run it to write them: `python grafana/dashboards.py`; a test compares the files with it. Metric names
are those of `ingest/metrics.py`. Every panel has a unit and a description that says what bad looks
like; titles are Chinese and English, because operators read the one and the code speaks the other.
"""

import json
from collections.abc import Callable
from pathlib import Path
from string import ascii_uppercase

from grafana_foundation_sdk.builders import common as common_builders
from grafana_foundation_sdk.builders import stat, timeseries
from grafana_foundation_sdk.builders.dashboard import Dashboard, DatasourceVariable, Row, ThresholdsConfig
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.variants import Dataquery as AnyDataquery
from grafana_foundation_sdk.models import common, units
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DataSourceRef,
    Panel,
    Threshold,
    ThresholdsMode,
    ValueMap,
    ValueMappingResult,
)

FOLDER = Path(__file__).parent / "dashboards"
SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
LEGEND = (
    common_builders.VizLegendOptions()
    .show_legend(True)
    .display_mode(common.LegendDisplayMode.LIST)
    .placement(common.LegendPlacement.BOTTOM)
)
TOOLTIP = (
    common_builders.VizTooltipOptions()
    .mode(common.TooltipDisplayMode.MULTI)
    .sort(common.SortOrder.DESCENDING)
)

Steps = dict[float | None, str]
"""Colour from this value on; None is the base, below every number."""
BAD_ABOVE_ZERO: Steps = {None: "green", 0.5: "red"}
UP: Steps = {None: "red", 1: "green"}
STUCK_SECONDS: Steps = {None: "green", 10: "yellow", 60: "red"}
"""60 s is the alert's limit; a batch takes well under a second, so 10 s is already a stall."""


def _queries(by_legend: dict[str, str]) -> list[Builder[AnyDataquery]]:
    """PromQL by legend, lettered A, B, C as Grafana does."""
    return [
        Dataquery().expr(expr).legend_format(legend).ref_id(ref_id)
        for ref_id, (legend, expr) in zip(ascii_uppercase, by_legend.items(), strict=False)
    ]


def _thresholds(steps: Steps) -> ThresholdsConfig:
    colours = [Threshold(value, colour) for value, colour in steps.items()]
    return ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(colours)


def _number(title: str, description: str, unit: str, expr: str, steps: Steps) -> stat.Panel:
    """One number of the top row, coloured by its state; six of them fill the row."""
    return (
        stat.Panel()
        .title(title)
        .description(description)
        .unit(unit)
        .datasource(SOURCE)
        .targets(_queries({"": expr}))
        .thresholds(_thresholds(steps))
        .reduce_options(common_builders.ReduceDataOptions().calcs(["lastNotNull"]))
        .color_mode(common.BigValueColorMode.BACKGROUND)
        .height(4)
        .span(4)
    )


def _state(title: str, description: str, expr: str) -> stat.Panel:
    """1 and 0 as words."""
    words = {
        "1": ValueMappingResult(text="正常 / up", index=0),
        "0": ValueMappingResult(text="断开 / down", index=1),
    }
    return _number(title, description, units.Bool, expr, UP).mappings([ValueMap(words)])


def _lines(
    title: str, description: str, unit: str, queries: dict[str, str], steps: Steps | None = None
) -> timeseries.Panel:
    """Curves over time, `queries` by their legends; with `steps`, the limits are drawn as lines."""
    panel = (
        timeseries.Panel()
        .title(title)
        .description(description)
        .unit(unit)
        .datasource(SOURCE)
        .targets(_queries(queries))
        .legend(LEGEND)
        .tooltip(TOOLTIP)
        .axis_soft_min(0)
        .fill_opacity(8)
        .show_points(common.VisibilityMode.NEVER)
        .height(8)
        .span(12)
    )
    if steps:
        style = common_builders.GraphThresholdsStyleConfig().mode(common.GraphThresholdsStyleMode.DASHED)
        panel.thresholds(_thresholds(steps)).thresholds_style(style)
    return panel


def _rate(counter: str, by: str = "") -> str:
    """Per second over all workers, one curve per value of the label `by`."""
    return f"sum{f' by ({by}) ' if by else ''}(rate({counter}[$__rate_interval]))"


def _flow(noun: str) -> dict[str, str]:
    """The four accounts of `messages` or `readings`, per second."""
    accounts = {
        "收到 / received": "received",
        "提交 / committed": "committed",
        "重复 / duplicate": "duplicate",
        "拒绝 / rejected": "rejected",
    }
    return {legend: _rate(f"ganzhi_{noun}_{account}_total") for legend, account in accounts.items()}


def _difference(noun: str) -> str:
    """Received less every account it can be in: 0 in every scrape of every worker."""
    others = [f"sum(ganzhi_{noun}_{account}_total)" for account in ("committed", "duplicate", "rejected")]
    return " - ".join([f"sum(ganzhi_{noun}_received_total)", *others, f"sum(ganzhi_{noun}_in_flight)"])


def _quantiles(histogram: str) -> dict[str, str]:
    buckets = _rate(f"{histogram}_bucket", "le")
    return {f"p{q * 100:g}": f"histogram_quantile({q}, {buckets})" for q in (0.5, 0.95, 0.99)}


def _is_it_ok() -> list[Builder[Panel]]:
    return [
        _state(
            "MQTT 代理 / Broker",
            "任一工作进程与代理断开即为红色；消息在代理或网关侧等待。"
            " / Red when any worker is without its broker: nothing comes in. Look at the broker's "
            "log, then at the worker's user name and password.",
            "min(ganzhi_broker_connected)",
        ),
        _state(
            "数据库 / Database",
            "红色表示数据库不接受写入；消息停留在代理中，不丢失。"
            " / Red when the database takes no writes: acknowledgements stop and messages wait in "
            "the broker, whose memory grows.",
            "min(ganzhi_database_up)",
        ),
        _number(
            "最早未确认 / Oldest unacknowledged",
            "正常时低于 1 秒；超过 60 秒持续 2 分钟即报警 GanzhiAcknowledgementsStuck。"
            " / Below 1 s when all is well; above 60 s for 2 minutes GanzhiAcknowledgementsStuck "
            "pages.",
            units.Seconds,
            "max(ganzhi_oldest_unacknowledged_seconds)",
            STUCK_SECONDS,
        ),
        _number(
            "距上次提交 / Since last commit",
            "最慢的工作进程距上次提交的时间；有消息到达却持续增长为异常，无数据表示尚未提交过。"
            " / The slowest worker's; bad when it grows while messages arrive. No data: nothing "
            "committed since the start.",
            units.Seconds,
            "max(time() - (ganzhi_last_commit_timestamp_seconds > 0))",
            STUCK_SECONDS,
        ),
        _number(
            "24 小时内丢失会话 / Sessions lost, 24 h",
            "大于 0：代理丢失了会话，其间到达的消息可能未排队。"
            " / Above 0 the broker had forgotten a worker's session: what came meanwhile was not "
            "queued. Check its persistence and session expiry.",
            units.Short,
            "sum(increase(ganzhi_sessions_lost_total[24h]))",
            BAD_ABOVE_ZERO,
        ).decimals(0),
        _number(
            "消息速率 / Messages",
            "收到的消息。红色表示没有任何消息到达：检查网关与代理。"
            " / Received. Red when nothing arrives at all: look at the gateways and at the broker's "
            "access list.",
            units.MessagesPerSecond,
            _rate("ganzhi_messages_received_total"),
            {None: "red", 0.001: "green"},
        ),
    ]


def _messages() -> list[Builder[Panel]]:
    return [
        _lines(
            "消息去向 / Where messages go",
            "收到应等于提交 + 重复 + 拒绝；收到高于其和表示积压。"
            " / Received equals the sum of the others; above it, messages pile up. Many duplicates: "
            "a gateway or the broker sends again.",
            units.MessagesPerSecond,
            _flow("messages"),
        ),
        _lines(
            "处理中 / In flight",
            "已收到、尚未提交的消息和读数；持续处于高位表示数据库跟不上。"
            " / Received and not yet committed; flat at its ceiling means that the database does not "
            "keep up.",
            units.Short,
            {
                "消息 / messages": "sum(ganzhi_messages_in_flight)",
                "读数 / readings": "sum(ganzhi_readings_in_flight)",
            },
        ),
        _lines(
            "按路由 / By route",
            "某一路由降到零而其余正常：该类来源或其桥接停止。"
            " / One route at zero while others run: that kind of source, or the bridge it comes "
            "through, has stopped.",
            units.MessagesPerSecond,
            {"{{route}}": _rate("ganzhi_messages_received_total", "route")},
        ),
        _lines(
            "消息拒绝原因 / Messages rejected, by reason",
            "整条消息被拒绝；突增多为某网关新固件或配置错误。"
            " / Nothing of the message could be stored; a step up is usually one gateway's new "
            "firmware. `ganzhi rejections list` names it.",
            units.MessagesPerSecond,
            {
                "{{reason}}": _rate("ganzhi_messages_rejected_total", "reason"),
                "未存储 / unstored": _rate("ganzhi_rejections_unstored_total"),
            },
        ),
        _lines(
            "账目差额 / Books",
            "收到减去提交、重复、拒绝和处理中；非零即为程序错误，请报告。"
            " / Received less committed, duplicate, rejected and in flight; anything but 0 is a "
            "fault of the service: report it.",
            units.Short,
            {"消息 / messages": _difference("messages"), "读数 / readings": _difference("readings")},
            {None: "red", -0.5: "green", 0.5: "red"},
        )
        .span(24)
        .height(5),
    ]


def _readings() -> list[Builder[Panel]]:
    return [
        _lines(
            "各领域读数 / Readings by domain",
            "每秒提交的读数；某领域下降：其网关或平台离线。other 增多：未登记的终端。"
            " / Committed per second. A domain that falls: its gateways or platform are away. Much "
            "in other: unregistered terminals.",
            units.CountsPerSecond,
            {"{{domain}}": _rate("ganzhi_readings_committed_total", "domain")},
        ),
        _lines(
            "读数去向 / Where readings go",
            "收到应等于提交 + 重复 + 拒绝。事件为非数值观测。"
            " / Received equals committed, duplicate and rejected together. Events are observations "
            "without a number.",
            units.CountsPerSecond,
            _flow("readings") | {"事件 / events": _rate("ganzhi_events_committed_total")},
        ),
        _lines(
            "读数拒绝原因 / Readings rejected, by reason",
            "time_in_future 突增：网关把本地时间写成 Z；unit_mismatch：单位配置错误。"
            " / time_in_future: a gateway writes local time as Z. unit_mismatch: a unit was set "
            "wrongly.",
            units.CountsPerSecond,
            {"{{reason}}": _rate("ganzhi_readings_rejected_total", "reason")},
        ),
        _lines(
            "带标记的读数 / Flagged readings",
            "已存储但存疑的读数；late 增多：网关在补传；suspect 增多：传感器超出合理范围。"
            " / Stored with a mark. Much late: a gateway catches up. Much suspect: sensors outside "
            "their plausible range.",
            units.CountsPerSecond,
            {"{{flag}}": _rate("ganzhi_readings_flagged_total", "flag")},
        ),
    ]


def _writing() -> list[Builder[Panel]]:
    return [
        _lines(
            "提交耗时 / Commit time",
            "一个批次的事务耗时；p95 超过 1 秒：数据库磁盘或锁有问题。"
            " / One batch's transaction. p95 above 1 s: the database's disk is slow or something "
            "holds a lock.",
            units.Seconds,
            _quantiles("ganzhi_commit_seconds"),
            {None: "green", 1: "red"},
        ),
        _lines(
            "入库延迟 / Ingest lag",
            "消息到达至提交；p95 超过 5 秒：服务跟不上，先看提交耗时。"
            " / A message's arrival to its commit. p95 above 5 s: the service does not keep up; look "
            "at the commit time first.",
            units.Seconds,
            _quantiles("ganzhi_ingest_lag_seconds"),
            {None: "green", 5: "red"},
        ),
        _lines(
            "观测时延 / Observation age",
            "设备时间至提交；整体升高：平台或网关延迟；p99 高：少数终端补传。"
            " / Device time to commit. All curves up: a platform is late. Only p99 up: a few "
            "terminals catch up.",
            units.Seconds,
            _quantiles("ganzhi_observation_age_seconds"),
        ),
        _lines(
            "批次大小 / Batch size",
            "每批读数；持续等于上限 GANZHI_BATCH_READINGS（默认 20000）：已满负荷。"
            " / Readings in a batch. At GANZHI_BATCH_READINGS (20,000 by default) all the time: at "
            "full load.",
            units.Short,
            _quantiles("ganzhi_batch_readings"),
        ),
        _lines(
            "直接压缩 / Direct compress",
            "0：写入未直接压缩，磁盘占用数倍增长；检查 reading 是否有唯一索引或触发器。postgres 存储恒为 0。"
            " / 0: rows are stored uncompressed and take several times the space; look for a unique "
            "index or a trigger on reading. Always 0 on the postgres storage.",
            units.Short,
            {"{{instance}}": "ganzhi_direct_compress"},
            UP,
        )
        .max(1)
        .span(24)
        .height(5),
    ]


def ingest() -> Dashboard:
    """The way of a reading through the workers: is it OK, then message by message to the commit."""
    board = (
        Dashboard("感知 · 接入 / Ganzhi · Ingest")
        .uid("ganzhi-ingest")
        .tags(["ganzhi"])
        .readonly()
        .description("从 MQTT 代理到数据库提交的数据通路 / The path from the broker to the commit")
        .time("now-3h", "now")
        .refresh("30s")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .with_variable(DatasourceVariable("datasource").label("数据源 / Data source").type("prometheus"))
    )
    rows = {
        "是否正常 / Is it OK?": _is_it_ok(),
        "消息 / Messages": _messages(),
        "读数 / Readings": _readings(),
        "写入 / Writing": _writing(),
    }
    for title, panels in rows.items():
        board.with_row(Row(title))
        for panel in panels:
            board.with_panel(panel)
    return board


DASHBOARDS: dict[str, Callable[[], Dashboard]] = {"ingest.json": ingest}


def render() -> dict[str, str]:
    """The text of every dashboard by its file name."""
    return {name: _text(make()) for name, make in DASHBOARDS.items()}


def _text(board: Dashboard) -> str:
    built = board.build()
    for number, panel in enumerate(built.panels or [], 1):
        panel.id_val = number  # links to a panel and alerts' pictures name it
    return json.dumps(built, cls=JSONEncoder, ensure_ascii=False, indent=2, sort_keys=True) + "\n"


if __name__ == "__main__":
    for name, text in render().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
