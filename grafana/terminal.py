"""The dashboard Terminal: all that the database knows of one code. SQL alone, for the province and for a city.

When a terminal was heard is in the observer's memory; here its state is told from the newest reading's own time,
which is right as long as its clock is. `ganzhi terminals show CODE` knows the arrival.
"""

from grafana_foundation_sdk.builders.dashboard import Dashboard, TextBoxVariable
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import units
from grafana_foundation_sdk.models.dashboard import Panel

from devices.division import Division
from grafana.board import dashboard, fill, postgres_variable
from grafana.panels import lines, rows, when
from grafana.queries import Sql, sql
from schemas.profiles import PROFILES

SQL = sql(
    "terminal", rhythms=" ".join(f"WHEN '{p.name}' THEN {p.report_every_seconds}" for p in PROFILES.values())
)


def _panels() -> list[Builder[Panel]]:
    return [
        rows(
            "这是什么 / What it is",
            "状态按最近读数的设备时间推算；lost、never_heard 须处理。无数据：编码不存在，或不属于本市。"
            " / The state follows from the newest reading's own time; lost and never_heard want somebody. No data: "
            "no such code, or another city's.",
            Sql(SQL["facts"]),
        )
        .span(12)
        .height(14),
        rows(
            "最新与最早读数 / Last and first readings",
            "某指标的最近时间远早于其他：该传感器已坏。"
            " / One metric far behind the others: that sensor is broken.",
            Sql(SQL["last"]),
            {"last_at": when(), "first_at": when()},
        )
        .span(12)
        .height(14),
        rows(
            "网关与联系人 / Gateway and whom to call",
            "网关 offline 或 silent 时终端失联的原因在网关：先联系此人。"
            " / A gateway that is offline or silent explains the terminal: call this one first.",
            Sql(SQL["gateway"]),
            {"last_seen": when()},
        ).height(5),
        lines(
            "读数 / Readings",
            "平直不变或跳变的曲线：传感器故障；空白：未上报。"
            " / Flat or jumping: a broken sensor. Empty: it did not report.",
            units.Short,
            Sql(SQL["readings"], series=True),
        )
        .span(24)
        .height(10),
        lines(
            "每日读数数 / Readings by day",
            "应与上报周期相符；低：信号差或电量低，高：重复补传。"
            " / Should fit its rhythm. Low: weak signal or battery; high: it sends again.",
            units.Short,
            Sql(SQL["daily"], series=True),
        ),
        rows(
            "事件 / Events",
            "非数值观测，新的在前；告警类须核实现场。"
            " / Observations without a number, the newest first; alarms are to be checked on site.",
            Sql(SQL["events"]),
            {"observed_at": when()},
        ).span(12),
        rows(
            "被拒消息 / Rejections",
            "同一网关的、载荷含此编码的被拒消息；detail 说明第一处错误。"
            " / Refused messages of its gateway whose payload has this code; the detail says what was wrong first.",
            Sql(SQL["rejections"]),
            {"received_at": when()},
        ),
        rows(
            "别名 / Aliases",
            "平台侧的名称与有效期；已过期的别名仍在使用：平台换了设备。"
            " / Its names on platforms and their times; one in use past its end: the platform swapped the device.",
            Sql(SQL["aliases"]),
        ).height(6),
    ]


def terminal(own: Division | None = None) -> Dashboard:
    """One terminal, by its code or an alias; `own`: of this city, for its reader."""
    board = dashboard(
        f"ganzhi-terminal-{own.code}" if own else "ganzhi-terminal",
        f"感知 · 终端 · {own.name_zh} / Ganzhi · Terminal · {own.name_en}"
        if own
        else "感知 · 终端 / Ganzhi · Terminal",
        "一个终端的状态、历史、读数与责任人 / One terminal: state, history, readings, whom to call",
        hours=7 * 24,
    )
    board.with_variable(postgres_variable(f"Ganzhi {own.code}" if own else ""))
    board.with_variable(TextBoxVariable("code").label("编码 / Code").default_value(""))
    return fill(board, {"终端 / Terminal": _panels()})
