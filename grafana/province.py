"""The dashboard Province: how far the province is on its way to 300 million terminals, and where it is not.

All but two panels ask the observer's metrics; what others declare, and the day's indicators, stand in the database.
"""

from grafana_foundation_sdk.builders.dashboard import Dashboard
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import units
from grafana_foundation_sdk.models.dashboard import Panel

from grafana.board import dashboard, fill, job_variable, postgres_variable, prometheus_variable
from grafana.figures import DOWN, FILLED, INSTALLED, LIVE, TARGET, share
from grafana.panels import BAD_ABOVE_ZERO, COVERED, STALE_SECONDS, alerts, firing, lines, link, merged, number
from grafana.province_goals import nodes, progress, video
from grafana.province_places import CITY_URL, maps
from grafana.queries import named, of_observer, or_zero


def _is_it_ok() -> list[Builder[Panel]]:
    return [
        firing(),
        number(
            "距上次统计 / Since last count",
            "红色：统计进程（ganzhi observe）停止，本页其余数字已过期。"
            " / Red: the observer has stopped, and every other figure here is old.",
            units.Seconds,
            f"time() - max(last_over_time({of_observer('ganzhi_observer_last_run_timestamp_seconds')}[1d]))",
            STALE_SECONDS,
        ),
        number(
            "中断缺口 / Outages open",
            "网关离线、大面积掉线、全部失联；红色表示现场有人需要出动，见下方缺口表。"
            " / Gateways offline, outages and dark cells. Red: somebody has to go; the table of gaps below "
            "says where.",
            units.Short,
            or_zero(f"sum({of_observer('ganzhi_coverage_gaps', _kinds('gateway_offline|outage|dark'))})"),
            BAD_ABOVE_ZERO,
        ),
        number(
            "计划缺口 / Plan gaps open",
            "未达计划与从未上线；黄色表示需要排期，不需夜间处理。"
            " / Targets missed and terminals never heard. Yellow: to be planned, not to be mended at night.",
            units.Short,
            or_zero(f"sum({of_observer('ganzhi_coverage_gaps', _kinds('under_target|never_heard'))})"),
            {None: "green", 0.5: "yellow"},
        ),
        number(
            "离线网关 / Gateways down",
            "自称离线或静默的网关数；红色时先看同一城市是否多台同时离线。"
            " / Gateways that say they are offline, or are silent. Red: see first whether one city has several.",
            units.Short,
            or_zero(f"sum({DOWN})"),
            BAD_ABOVE_ZERO,
        ),
        number(
            "当前联网率 / Networking now",
            "在线 / 登记；低于 90% 偏低，低于 70% 为故障。"
            " / Live / installed. Below 90 % it is low, below 70 % something is broken.",
            units.PercentUnit,
            share(LIVE, INSTALLED),
            COVERED,
        ).decimals(1),
        number(
            "有效覆盖率 / Coverage",
            "有目标处在线终端 / 目标，富余不抵缺口；低于 90% 为未达计划。"
            " / Live terminals that fill a target / targets; a surplus here hides no hole there. "
            "Below 90 % the plan is missed.",
            units.PercentUnit,
            share(FILLED, TARGET),
            COVERED,
        ).decimals(1),
        number(
            "达标区县 / Counties covered",
            "覆盖率不低于 0.9 的区县占 136 个的比例；没有分区县计划时无数据。"
            " / Counties with a coverage of 0.9 or more, of 136. No data: the plan says nothing by county.",
            units.PercentUnit,
            f"max({of_observer('ganzhi_counties_covered_ratio')})",
            COVERED,
        ).decimals(1),
        alerts(),
    ]


def _gaps() -> list[Builder[Panel]]:
    counted = of_observer("ganzhi_coverage_gaps")
    largest = of_observer("ganzhi_coverage_gap_info")
    return [
        lines(
            "未关闭缺口 / Open gaps by kind",
            "outage、dark、gateway_offline 上升：现场故障；under_target 上升：计划到期未建成。"
            " / outage, dark or gateway_offline up: something broke in the field. under_target up: a plan is due.",
            units.Short,
            {"{{kind}}": f"sum by (kind) ({counted})"},
        ),
        lines(
            "各市缺口 / Open gaps by city",
            "某一市突增：该市的网关、平台或供电。 / One city up: its gateways, its platform or its power.",
            units.Short,
            {"{{name_zh}} {{name_en}}": named(f"sum by (city) ({counted})")},
        ),
        merged(
            "最大的缺口 / Largest gaps",
            "缺失终端最多的在前，不含已认领和检修中的；网关列为原因所在。责任人见城市页，认领用 ganzhi gaps ack。"
            " / The most missing terminals first, none acknowledged or under maintenance; where a gateway is the cause "
            "it is named. Whom to call stands on the city's dashboard; acknowledge with ganzhi gaps ack.",
            {"缺失 / missing": named(f"topk(50, {largest})")},
            {"city": link("城市 / City", CITY_URL)},
            hidden=["instance", "job", "__name__"],
        ),
    ]


def _upkeep() -> list[Builder[Panel]]:
    return [
        lines(
            "复核差 / Recount difference",
            "每夜从数据库重新计数与运行值之差；非零即为错误，请报告。"
            " / The nightly recount from the database less the running counts; anything but 0 is a fault: report it.",
            units.Short,
            {"差 / difference": f"max({of_observer('ganzhi_recount_difference')})"},
            {None: "red", -0.5: "green", 0.5: "red"},
        ),
        lines(
            "清除的重复读数 / Duplicates removed",
            "维护任务删除的相同读数；突增：网关在重新打包补传。"
            " / Equal readings that maintenance removed; a step up: a gateway sends old data packed anew.",
            units.Short,
            {"读数 / readings": f"max({of_observer('ganzhi_duplicate_readings_removed_total')})"},
        ),
    ]


def province() -> Dashboard:
    """The whole province."""
    board = dashboard(
        "ganzhi-province",
        "感知 · 全省 / Ganzhi · Province",
        "3 亿终端的进度、覆盖与缺口 / Progress to 300 million terminals, coverage and gaps",
    )
    for variable in (prometheus_variable(), postgres_variable(), job_variable()):
        board.with_variable(variable)
    by_row = {
        "是否正常 / Is it OK?": _is_it_ok(),
        "进度 / Progress": progress(),
        "地图 / Map": maps(),
        "联网与视频 / Networking and video": video(),
        "节点与标识 / Nodes and identifiers": nodes(),
        "缺口 / Gaps": _gaps(),
        "维护 / Upkeep": _upkeep(),
    }
    return fill(board, by_row)


def _kinds(kinds: str) -> str:
    return f'kind=~"{kinds}"'
