"""The dashboard Data quality: what is refused, flagged, late or missing, and whose it is."""

from grafana_foundation_sdk.builders.dashboard import Dashboard
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import units
from grafana_foundation_sdk.models.dashboard import Panel

from grafana.board import (
    dashboard,
    fill,
    instance_variable,
    job_variable,
    postgres_variable,
    prometheus_variable,
)
from grafana.panels import BAD_ABOVE_ZERO, Steps, firing, lines, link, merged, number, ratio, rows, when
from grafana.queries import WORKER, Sql, named, of_observer, of_worker, quantiles, rate, sql

SQL = sql("quality")
FEW: Steps = {None: "green", 0.01: "yellow", 0.05: "red"}
"""One reading in a hundred is the noise of a large fleet; one in twenty is somebody's fault."""
GOOD: Steps = {None: "red", 0.9: "yellow", 0.98: "green"}


def _share(counter: str, matchers: str) -> str:
    """Part of the readings that came; nothing where none came."""
    part = rate(counter, matchers=f"{WORKER}, {matchers}" if matchers else WORKER)
    return f"{part} / {rate('ganzhi_readings_received_total')}"


def _is_it_ok() -> list[Builder[Panel]]:
    flagged, rejected = "ganzhi_readings_flagged_total", "ganzhi_readings_rejected_total"
    return [
        firing(),
        number(
            "拒绝比例 / Rejected",
            "被拒读数 / 收到；红色高于 5%：某网关新固件或配置错误，见下方按网关表。"
            " / Rejected / received readings. Red above 5 %: a gateway's new firmware or settings; the table "
            "by gateway below names it.",
            units.PercentUnit,
            _share(rejected, ""),
            FEW,
        ).decimals(2),
        number(
            "可疑比例 / Suspect",
            "超出合理范围但已存储的读数；红色高于 5%：传感器损坏或单位错误。"
            " / Stored, but outside the plausible range. Red above 5 %: broken sensors, or a wrong unit.",
            units.PercentUnit,
            _share(flagged, 'flag="suspect"'),
            FEW,
        ).decimals(2),
        number(
            "迟到比例 / Late",
            "观测早于到达一天以上；红色高于 5%：网关在补传积压。"
            " / Observed more than a day before they came. Red above 5 %: gateways send a backlog.",
            units.PercentUnit,
            _share(flagged, 'flag="late"'),
            FEW,
        ).decimals(2),
        number(
            "时钟超前 / Clocks ahead",
            "因时间在未来而被拒；红色高于 5%：网关把本地时间写成 Z，登记其 utc_offset。"
            " / Refused as in the future. Red above 5 %: a gateway writes local time as Z; register its utc_offset.",
            units.PercentUnit,
            _share(rejected, 'reason="time_in_future"'),
            FEW,
        ).decimals(2),
        number(
            "序号缺口 / Sequence gaps",
            "一小时内编号缺失的消息；红色：消息在到达之前丢失，看网关缓存与 QoS。"
            " / Messages missing in a source's numbering within an hour. Red: lost before they came; look at "
            "the gateway's buffer and its QoS.",
            units.Short,
            f"sum(increase({of_worker('ganzhi_sequence_gaps_total')}[1h]))",
            BAD_ABOVE_ZERO,
        ).decimals(0),
        number(
            "全部被拒终端 / Invalid",
            "最近一次读数全部被拒的终端；红色：现场有设备在说无用的话。"
            " / Terminals whose readings were all refused when last heard. Red: devices that talk in vain.",
            units.Short,
            f"sum({of_observer('ganzhi_terminals_invalid')})",
            BAD_ABOVE_ZERO,
        ),
        number(
            "最差的市 / Worst city",
            "各市 24 小时质量（无标记 / 收到）的最小值；红色低于 90%，见下表。"
            " / The lowest quality of a city over 24 h (without a flag / received). Red below 90 %; see the table.",
            units.PercentUnit,
            f"min({of_observer('ganzhi_quality_ratio')})",
            GOOD,
        ).decimals(1),
    ]


def _rejected() -> list[Builder[Panel]]:
    return [
        lines(
            "读数拒绝原因 / Readings rejected, by reason",
            "某原因阶跃上升：某网关改了固件或配置。"
            " / A step up of one reason: a gateway's firmware or settings changed.",
            units.CountsPerSecond,
            {"{{reason}}": rate("ganzhi_readings_rejected_total", "reason")},
        ),
        lines(
            "消息拒绝原因 / Messages rejected, by reason",
            "整条消息不可用；bad_topic、no_route：接入方配置错误。未存储：垃圾超过速率上限。"
            " / Nothing of the message could be used. bad_topic, no_route: a vendor's settings. Unstored: garbage "
            "beyond the rate.",
            units.MessagesPerSecond,
            {
                "{{reason}}": rate("ganzhi_messages_rejected_total", "reason"),
                "未存储 / unstored": rate("ganzhi_rejections_unstored_total"),
            },
        ),
        rows(
            "谁的数据被拒 / Whose data is refused",
            "未处理的拒绝，读数最多的在前；example 说明第一处错误。修复后：ganzhi rejections replay。"
            " / Refused and not mended, the most readings first; the example says what was wrong. After the fix: "
            "ganzhi rejections replay.",
            Sql(SQL["by_gateway"]),
            {"since": when(), "last": when()},
        ),
    ]


def _flags() -> list[Builder[Panel]]:
    return [
        lines(
            "标记 / Flags",
            "suspect：超出合理范围；late：迟到；arrival_time：设备未给时间；clock_repaired：时区已修正；"
            "unit_converted：单位已换算，属正常。"
            " / suspect: implausible; late: a backlog; arrival_time: the device gave no time; clock_repaired: its "
            "zone was mended; unit_converted is normal. Bad is a step up.",
            units.CountsPerSecond,
            {"{{flag}}": rate("ganzhi_readings_flagged_total", "flag")},
        ),
        lines(
            "观测时延 / Observation age",
            "设备时间至提交；整体升高：平台延迟；p99 高：少数终端补传；负值不会出现。"
            " / Device time to commit. All curves up: a platform is late. Only p99 up: a few catch up.",
            units.Seconds,
            quantiles("ganzhi_observation_age_seconds"),
        ),
        lines(
            "时间问题 / Clocks",
            "被拒的未来时间、过旧时间，与被修正的时区；上升：某批设备时钟错误。"
            " / Refused as too new or too old, and zones mended; up: the clocks of a batch of devices are wrong.",
            units.CountsPerSecond,
            {
                "{{reason}}": rate(
                    "ganzhi_readings_rejected_total", "reason", WORKER + ', reason=~"time_.*"'
                ),
                "{{flag}}": rate(
                    "ganzhi_readings_flagged_total", "flag", WORKER + ', flag=~"clock_repaired|arrival_time"'
                ),
            },
        ),
        lines(
            "序号缺口 / Sequence gaps by source",
            "来源编号不连续：消息在到达之前丢失。"
            " / Holes in a source's numbering: messages lost before they came.",
            units.CountsPerSecond,
            {"{{source}}": rate("ganzhi_sequence_gaps_total", "source")},
        ),
    ]


def _cities() -> list[Builder[Panel]]:
    return [
        merged(
            "各市质量 / Quality by city",
            "24 小时无标记 / 收到，与全部被拒的终端数；红色先看。点击进入该市。"
            " / Without a flag / received, 24 h, and terminals all of whose readings were refused; see the red ones.",
            {
                "质量 / quality": named(f"max by (city) ({of_observer('ganzhi_quality_ratio')})"),
                "全部被拒 / invalid": named(f"max by (city) ({of_observer('ganzhi_terminals_invalid')})"),
            },
            {
                "质量 / quality": ratio(GOOD),
                "city": link("城市 / City", "/d/ganzhi-city?var-city=${__data.fields.city}"),
            },
        ).span(12),
        lines(
            "各市每小时质量 / Quality by hour",
            "下降的市：其网关改动或时钟错误；恢复后自动回升。"
            " / A city that falls: a gateway of its changed, or clocks are wrong.",
            units.PercentUnit,
            Sql(SQL["by_hour"], series=True),
            {None: "red", 0.9: "green"},
        ).height(9),
    ]


def quality() -> Dashboard:
    """What arrives and is not as it should be."""
    board = dashboard(
        "ganzhi-quality",
        "感知 · 数据质量 / Ganzhi · Data quality",
        "拒绝、时钟、迟到、可疑与丢失 / Rejections, clocks, late, suspect and lost data",
        hours=6,
    )
    for variable in (prometheus_variable(), postgres_variable(), job_variable(), instance_variable()):
        board.with_variable(variable)
    by_row = {
        "是否正常 / Is it OK?": _is_it_ok(),
        "拒绝 / Rejections": _rejected(),
        "标记与时钟 / Flags and clocks": _flags(),
        "各市 / Cities": _cities(),
    }
    return fill(board, by_row)
