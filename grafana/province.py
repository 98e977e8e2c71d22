"""The dashboard Province: how far the province is on its way to 300 million terminals, and where it is not.

All but one panel ask the observer's metrics; what others declare stands in the database.
"""

from grafana_foundation_sdk.builders.dashboard import Dashboard
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import units
from grafana_foundation_sdk.models.dashboard import Panel

from grafana.board import dashboard, fill, job_variable, postgres_variable, prometheus_variable
from grafana.panels import (
    BAD_ABOVE_ZERO,
    COVERED,
    STALE_SECONDS,
    alerts,
    firing,
    lines,
    link,
    merged,
    number,
    numbers,
    place_map,
    ratio,
    rows,
)
from grafana.queries import Sql, named, of_observer, or_zero, sql

SQL = sql("province")
CITY_URL = "/d/ganzhi-city?var-city=${__data.fields.city}"
STATES = {
    "live": "在线",
    "overdue": "逾期",
    "lost": "失联",
    "never_heard": "从未上线",
    "discovered": "未登记",
}


def _share(part: str, whole: str, by: str = "") -> str:
    """One sum of the observer's over another."""
    group = f" by ({by})" if by else ""
    return f"sum{group} ({part}) / sum{group} ({whole})"


INSTALLED = of_observer("ganzhi_terminals", 'state=~"live|overdue|lost|never_heard"')
HEARD = of_observer("ganzhi_terminals", 'state=~"live|overdue|lost"')
LIVE = of_observer("ganzhi_terminals", 'state="live"')
TARGET = of_observer("ganzhi_terminals_target")
FILLED = f"{of_observer('ganzhi_coverage_ratio')} * {TARGET}"
"""Live terminals that fill a target: what the ratio of each city and domain counts, so that they can be summed."""
DOWN = of_observer("ganzhi_gateways", 'state=~"offline|silent"')
FORECAST = of_observer("ganzhi_goal_forecast_timestamp_seconds")
DUE = of_observer("ganzhi_goal_due_timestamp_seconds")


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
            _share(LIVE, INSTALLED),
            COVERED,
        ).decimals(1),
        number(
            "有效覆盖率 / Coverage",
            "有目标处在线终端 / 目标，富余不抵缺口；低于 90% 为未达计划。"
            " / Live terminals that fill a target / targets; a surplus here hides no hole there. "
            "Below 90 % the plan is missed.",
            units.PercentUnit,
            _share(FILLED, TARGET),
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


def _kinds(kinds: str) -> str:
    return f'kind=~"{kinds}"'


def _progress() -> list[Builder[Panel]]:
    return [
        numbers(
            "终端 / Terminals",
            "核实 = 登记且至少收到过一次；对外数字以核实为先，三个数并列。登记远多于核实：装而未通。"
            " / Verified: installed and heard at least once; a public figure leads with it and names all "
            "three. Far more installed than verified: put up and not connected.",
            units.Short,
            {
                "核实 / verified": f"max({of_observer('ganzhi_terminals_verified')})",
                "登记 / installed": f"max({of_observer('ganzhi_terminals_installed')})",
                "30 天活跃 / active": f"max({of_observer('ganzhi_terminals_active')})",
                "目标 / goal": f"max({of_observer('ganzhi_terminals_goal')})",
            },
        ),
        numbers(
            "预计达标日 / Forecast",
            "按近 90 天核实数的增长推算；晚于期限即落后。无增长则无预测。"
            " / When the goal is met if verified goes on growing as in the last 90 days; later than due is "
            "behind. No growth, no forecast.",
            units.DatetimeISO,
            {"预计 / forecast": f"max({FORECAST}) * 1000", "期限 / due": f"max({DUE}) * 1000"},
        ).span(8),
        number(
            "落后天数 / Days behind",
            "预计达标日减期限；红色为落后。无数据：没有增长，无法预测。"
            " / Forecast less due; red is late. No data: no growth to go by.",
            units.Days,
            f"(max({FORECAST}) - max({DUE})) / 86400",
            BAD_ABOVE_ZERO,
        ).span(4),
        lines(
            "3 亿进度 / Progress to 300 million",
            "核实与登记占 3 亿的比例；两线分开说明登记未核实。平线表示没有新增。"
            " / Verified and installed over 300 million. The lines part: installed is not heard. Flat: "
            "nothing is added.",
            units.PercentUnit,
            {
                "核实 / verified": f"max({of_observer('ganzhi_goal_progress_ratio')})",
                "登记（申报口径）/ installed (declared)": f"max({of_observer('ganzhi_goal_declared_ratio')})",
            },
        ),
        lines(
            "终端状态 / Terminals by state",
            "失联、从未上线上升为异常；逾期短时上升多为网关中断。"
            " / Bad when lost or never heard grow; overdue for a short time is usually a gateway.",
            units.Short,
            {
                f"{name} / {state}": f"sum({of_observer('ganzhi_terminals', _state(state))})"
                for state, name in STATES.items()
            },
        ),
    ]


def _state(state: str) -> str:
    return f'state="{state}"'


def _maps() -> list[Builder[Panel]]:
    return [
        place_map(
            "各市覆盖 / Coverage by city",
            "红色低于 70%，黄色低于 90%；无点表示没有目标。点击进入该市。"
            " / Red below 70 %, yellow below 90 %; no point: no target. A click leads to the city.",
            named(f"{_share(FILLED, TARGET, 'city')}"),
            value="覆盖率 / Coverage",
            lookup="city",
            url=CITY_URL,
        ),
        place_map(
            "区县覆盖 / Coverage by county",
            "136 个区县的中心点；红色低于 70%，黄色低于 90%。无点表示没有分区县目标。"
            " / The centres of 136 counties, as no outlines are to be had. Red below 70 %, yellow below 90 %; "
            "no point: no target by county.",
            # A county's code begins with its city's.
            f"label_replace({named(of_observer('ganzhi_county_coverage_ratio'), 'county')}, "
            '"city", "${1}00", "county", "(....)..")',
            value="覆盖率 / Coverage",
            lookup="county",
            url=CITY_URL,
        ),
        merged(
            "各市一览 / Cities",
            "按覆盖率与联网率着色：红色的城市先看。点击进入该市。"
            " / Coloured by coverage and networking: see the red ones first. A click leads to the city.",
            {
                "登记 / installed": named(f"sum by (city) ({INSTALLED})"),
                "核实 / verified": named(f"sum by (city) ({HEARD})"),
                "在线 / live": named(f"sum by (city) ({LIVE})"),
                "联网率 / networking": named(_share(LIVE, INSTALLED, "city")),
                "覆盖率 / coverage": named(_share(FILLED, TARGET, "city")),
                "质量 / quality": named(f"max by (city) ({of_observer('ganzhi_quality_ratio')})"),
                "离线网关 / gateways down": named(f"sum by (city) ({DOWN})"),
            },
            {
                "city": link("城市 / City", CITY_URL),
                "联网率 / networking": ratio(),
                "覆盖率 / coverage": ratio(),
                "质量 / quality": ratio({None: "red", 0.9: "yellow", 0.98: "green"}),
            },
        ).height(14),
    ]


def _video() -> list[Builder[Panel]]:
    smart, networking = "ganzhi_video_smart_ratio", "ganzhi_video_networking_ratio"
    kinds = {"known": 'kind="installed"', "unknown": 'kind="smart_unknown"'}
    return [
        lines(
            "各市日联网率 / Networking by city, daily",
            "24 小时内（NB-IoT 49 小时）收到过的 / 登记满 7 天的；低于 90% 为差。"
            " / Heard within a day (49 h on NB-IoT) / installed for more than 7 days; below 90 % is bad.",
            units.PercentUnit,
            {
                "{{name_zh}} {{name_en}}": named(
                    f"max by (city) ({of_observer('ganzhi_networking_daily_ratio')})"
                )
            },
            {None: "red", 0.9: "green"},
        ),
        lines(
            "重点公共区域视频 / Video in key public areas",
            "智能化覆盖率与联网率，目标各 90%；下降表示摄像机离线或新装非智能设备。"
            " / Smart and networking ratio, goal 90 % each; falling: cameras are offline, or new ones are not smart.",
            units.PercentUnit,
            {
                "智能化 / smart": f"max({of_observer(smart, _PROVINCE)})",
                "联网 / networking": f"max({of_observer(networking, _PROVINCE)})",
                "是否智能未知 / smart unknown": _share(
                    of_observer("ganzhi_video_terminals", kinds["unknown"]),
                    of_observer("ganzhi_video_terminals", kinds["known"]),
                ),
            },
            {None: "red", 0.9: "green"},
        ),
        merged(
            "各市视频 / Video by city",
            "红色低于 70%，黄色低于目标 90%。 / Red below 70 %, yellow below the goal of 90 %.",
            {
                "智能化 / smart": named(f"max by (city) ({of_observer(smart, _CITIES)})"),
                "联网 / networking": named(f"max by (city) ({of_observer(networking, _CITIES)})"),
            },
            {
                "city": link("城市 / City", CITY_URL),
                "智能化 / smart": ratio(),
                "联网 / networking": ratio(),
            },
        ),
    ]


_PROVINCE, _CITIES = 'city=""', 'city!=""'


def _nodes() -> list[Builder[Panel]]:
    return [
        numbers(
            "感知节点 / Sensing nodes",
            "制造、医疗、安防、市政等领域的核实终端，目标一千万；长期不增为异常。"
            " / Verified terminals in manufacturing, healthcare, security and municipal; goal 10 million. "
            "Bad when it stands still.",
            units.Short,
            {
                "核实 / verified": f"max({of_observer('ganzhi_nodes_verified')})",
                "目标 / goal": f"max({of_observer('ganzhi_nodes_goal')})",
            },
        ),
        numbers(
            "标识 / Identifiers",
            "登记库中不同的二级节点与企业节点；二级节点目标 30，低于目标为差。"
            " / Distinct secondary nodes and enterprises in our registry; goal 30 secondary nodes, bad below.",
            units.Short,
            {"{{level}}": f"max by (level) ({of_observer('ganzhi_identifier_nodes')})"},
        ),
        rows(
            "申报与实测 / Declared and measured",
            "他人公布的数字与我们统计的并列，从不合并；差距大时先核对口径与日期。"
            " / What others publish beside what we count, never merged. Far apart: compare the definition and "
            "the day first.",
            Sql(SQL["declared"]),
        ),
        rows(
            "当日指标 / Indicators of the day",
            "全省当日每项指标及其分子分母，报表以此为准；day 不是今天：统计进程停止。"
            " / Every figure of the province for the day with what it was made of, as reports have it. A day that is "
            "not today's: the observer has stopped.",
            Sql(SQL["indicators"]),
        ),
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
        "进度 / Progress": _progress(),
        "地图 / Map": _maps(),
        "联网与视频 / Networking and video": _video(),
        "节点与标识 / Nodes and identifiers": _nodes(),
        "缺口 / Gaps": _gaps(),
        "维护 / Upkeep": _upkeep(),
    }
    return fill(board, by_row)
