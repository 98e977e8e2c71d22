"""The dashboard City: one city's counties and domains, its trend, its gaps and gateways, and whom to call.

Of two kinds. The province's has the variable `city` and begins with the observer's metrics. A city's own asks the
database alone, as the city's reader, who sees nothing else: Prometheus knows no rows of a city's own.
"""

from grafana_foundation_sdk.builders.dashboard import ConstantVariable, Dashboard
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import units
from grafana_foundation_sdk.models.dashboard import Panel

from devices.division import Division
from grafana.board import city_variable, dashboard, fill, job_variable, postgres_variable, prometheus_variable
from grafana.panels import BAD_ABOVE_ZERO, COVERED, firing, lines, number, place_map, ratio, rows, when
from grafana.queries import Sql, of_observer, or_zero, sql

SQL = sql("city")


def _now() -> list[Builder[Panel]]:
    """Of the observer, half a minute old; the database's figures are a quarter of an hour old at most."""
    city = 'city=~"$city"'
    live = of_observer("ganzhi_terminals", f'{city}, state="live"')
    installed = of_observer("ganzhi_terminals", f'{city}, state=~"live|overdue|lost|never_heard"')
    target = of_observer("ganzhi_terminals_target", city)
    return [
        firing(),
        number(
            "中断缺口 / Outages open",
            "红色：有网关离线、大面积掉线或全部失联；见下方缺口表。"
            " / Red: a gateway is offline, or terminals are out; the table of gaps below says where.",
            units.Short,
            or_zero(f"sum({of_observer('ganzhi_coverage_gaps', _OUTAGES.format(city))})"),
            BAD_ABOVE_ZERO,
        ),
        number(
            "离线网关 / Gateways down",
            "自称离线或静默；红色时按下方网关表联系责任人。"
            " / Offline by their own word, or silent. Red: the table of gateways below says whom to call.",
            units.Short,
            or_zero(f"sum({of_observer('ganzhi_gateways', _DOWN.format(city))})"),
            BAD_ABOVE_ZERO,
        ),
        number(
            "当前联网率 / Networking now",
            "在线 / 登记；低于 90% 偏低，低于 70% 为故障。"
            " / Live / installed. Below 90 % it is low, below 70 % something is broken.",
            units.PercentUnit,
            f"sum({live}) / sum({installed})",
            COVERED,
        ).decimals(1),
        number(
            "日联网率 / Networking, daily",
            "24 小时内收到过的 / 登记满 7 天的；低于 90% 为差。"
            " / Heard within a day / installed for more than 7 days; below 90 % is bad.",
            units.PercentUnit,
            f"max({of_observer('ganzhi_networking_daily_ratio', city)})",
            COVERED,
        ).decimals(1),
        number(
            "有效覆盖率 / Coverage",
            "有目标处在线终端 / 目标；低于 90% 为未达计划。"
            " / Live terminals that fill a target / target; below 90 % the plan is missed.",
            units.PercentUnit,
            f"sum({of_observer('ganzhi_coverage_ratio', city)} * {target}) / sum({target})",
            COVERED,
        ).decimals(1),
        number(
            "数据质量 / Quality",
            "24 小时内无标记读数 / 收到；低于 98% 须看数据质量页。"
            " / Readings without a flag / received, 24 h; below 98 % see the dashboard Data quality.",
            units.PercentUnit,
            f"max({of_observer('ganzhi_quality_ratio', city)})",
            {None: "red", 0.9: "yellow", 0.98: "green"},
        ).decimals(1),
        number(
            "全部被拒终端 / Invalid",
            "收到但读数全部被拒的终端；红色：固件或单位配置错误，见下方拒绝表。"
            " / Terminals heard whose readings were all refused. Red: firmware or units are wrong; see the "
            "table of rejections below.",
            units.Short,
            f"max({of_observer('ganzhi_terminals_invalid', city)})",
            BAD_ABOVE_ZERO,
        ),
    ]


def _now_by_itself() -> list[Builder[Panel]]:
    """The same for a city's own reader, of the database."""
    panels = [
        number(
            "距上次统计 / Since last count",
            "每 15 分钟统计一次；红色超过一小时：省级统计进程停止，本页数字已过期，请联系省平台。"
            " / Counted every 15 minutes. Red above an hour: the province's observer has stopped and the figures "
            "here are old; call the province.",
            units.Seconds,
            Sql(SQL["age"]),
            {None: "green", 1800: "yellow", 3600: "red"},
        ),
        number(
            "中断缺口 / Outages open",
            "红色：有网关离线、大面积掉线或全部失联；见下方缺口表。"
            " / Red: a gateway is offline, or terminals are out; the table of gaps below says where.",
            units.Short,
            Sql(SQL["outages"]),
            BAD_ABOVE_ZERO,
        ),
        number(
            "离线网关 / Gateways down",
            "自称离线或静默；红色时按下方网关表联系责任人。"
            " / Offline by their own word, or silent. Red: the table of gateways below says whom to call.",
            units.Short,
            Sql(SQL["down"]),
            BAD_ABOVE_ZERO,
        ),
        number(
            "联网率 / Networking",
            "在线 / 登记；低于 90% 偏低，低于 70% 为故障。"
            " / Live / installed. Below 90 % it is low, below 70 % something is broken.",
            units.PercentUnit,
            Sql(SQL["networking"]),
            COVERED,
        ).decimals(1),
    ]
    return [panel.span(6).links([]) for panel in panels]


_OUTAGES = '{}, kind=~"gateway_offline|outage|dark"'
_DOWN = '{}, state=~"offline|silent"'


def _places() -> list[Builder[Panel]]:
    return [
        place_map(
            "区县联网 / Networking by county",
            "区县中心点，按在线 / 登记着色：红色低于 70%，黄色低于 90%。"
            " / Counties at their centres, by live / installed: red below 70 %, yellow below 90 %.",
            Sql(SQL["counties"]),
            value="networking",
            lookup="county",
        ),
        rows(
            "区县与领域 / Counties and domains",
            "覆盖率最低的在前，红色先看；市的一行是计划中未分到区县的部分。至多 15 分钟前。"
            " / The lowest coverage first; see the red ones. The city's own row is what the plan leaves beside "
            "its counties. 15 minutes old at most.",
            Sql(SQL["cells"]),
            {"networking": ratio(), "coverage": ratio()},
        )
        .height(14)
        .span(12),
    ]


def _trend() -> list[Builder[Panel]]:
    return [
        lines(
            "终端 / Terminals",
            "登记、核实、在线；在线下降而登记不变：有终端失联。每 15 分钟一点。"
            " / Live falls while installed stays: terminals are lost. A point every 15 minutes.",
            units.Short,
            Sql(SQL["trend"], series=True),
        ),
        lines(
            "缺失 / Missing",
            "失联与从未上线上升为异常；未登记上升：有终端未入库。"
            " / Bad when lost or never heard grow; discovered up: terminals that nobody registered.",
            units.Short,
            Sql(SQL["missing"], series=True),
        ),
        lines(
            "每日指标 / Ratios by day",
            "覆盖率、日联网率、建设率、质量；低于 0.9 为差。选更长时间看趋势。"
            " / Coverage, networking, build-out, quality; bad below 0.9. Choose a longer time for the trend.",
            units.PercentUnit,
            Sql(SQL["ratios"], series=True),
            {None: "red", 0.9: "green"},
        ),
        lines(
            "每小时读数 / Readings by hour",
            "某领域归零：其网关或平台停止上报。"
            " / A domain at zero: its gateways or its platform have stopped.",
            units.Short,
            Sql(SQL["readings"], series=True),
        ),
    ]


def _act() -> list[Builder[Panel]]:
    return [
        rows(
            "未关闭缺口 / Open gaps",
            "缺失最多的在前，附责任人与电话；确认：ganzhi gaps ack。"
            " / The most missing first, with whom to call; acknowledge with ganzhi gaps ack.",
            Sql(SQL["gaps"]),
            {"opened_at": when()},
        ),
        rows(
            "网关 / Gateways",
            "离线、静默的在前；最后一次听到的时间越久越严重。"
            " / Offline and silent ones first; the longer unheard the worse.",
            Sql(SQL["gateways"]),
            {"last_seen": when()},
        ),
        rows(
            "被拒数据 / Rejections",
            "未处理的拒绝，按网关与原因；修复后用 ganzhi rejections replay 补入。"
            " / Refused and not mended, by gateway and reason; after the fix: ganzhi rejections replay.",
            Sql(SQL["rejections"]),
            {"last": when()},
        ),
    ]


def city(own: Division | None = None) -> Dashboard:
    """Any city for the province's readers; `own` alone, for that city's reader."""
    board = dashboard(
        f"ganzhi-city-{own.code}" if own else "ganzhi-city",
        f"感知 · {own.name_zh} / Ganzhi · {own.name_en}" if own else "感知 · 城市 / Ganzhi · City",
        "一个市的区县、领域、缺口与网关 / A city's counties, domains, gaps and gateways",
    )
    by_row = {
        "是否正常 / Is it OK?": _now_by_itself() if own else _now(),
        "区县 / Counties": _places(),
        "处置 / To act on": _act(),
        "趋势 / Trend": _trend(),
    }
    if own:
        board.with_variable(postgres_variable(f"Ganzhi {own.code}"))
        board.with_variable(ConstantVariable("city").label("城市 / City").value(str(own.code)))
        return fill(board, by_row)
    for variable in (prometheus_variable(), postgres_variable(), job_variable(), city_variable()):
        board.with_variable(variable)
    return fill(board, by_row)
