"""Of the dashboard Province: what the policy asks for, and how far it is met.

Terminals, networking and video, sensing nodes and identifiers; what others declare stands beside what we count.
"""

from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import units
from grafana_foundation_sdk.models.dashboard import Panel

from grafana.figures import share
from grafana.panels import BAD_ABOVE_ZERO, lines, link, merged, number, numbers, ratio, rows
from grafana.province_places import CITY_URL
from grafana.queries import Sql, named, of_observer, sql

SQL = sql("province")
STATES = {
    "live": "在线",
    "overdue": "逾期",
    "lost": "失联",
    "never_heard": "从未上线",
    "discovered": "未登记",
}
FORECAST = of_observer("ganzhi_goal_forecast_timestamp_seconds")
DUE = of_observer("ganzhi_goal_due_timestamp_seconds")
_PROVINCE, _CITIES = 'city=""', 'city!=""'


def progress() -> list[Builder[Panel]]:
    """Terminals on their way to 300 million."""
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


def video() -> list[Builder[Panel]]:
    """Who is connected, above all the cameras of key public areas."""
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
                "是否智能未知 / smart unknown": share(
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


def nodes() -> list[Builder[Panel]]:
    """Sensing nodes and identifiers, and the declared figures beside the measured."""
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


def _state(state: str) -> str:
    return f'state="{state}"'
