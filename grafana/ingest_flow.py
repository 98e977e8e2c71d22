"""Of the dashboard Ingest: messages and readings, by where they came from and where they went."""

from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import units
from grafana_foundation_sdk.models.dashboard import Panel

from grafana.panels import lines
from grafana.queries import of_worker, rate


def messages() -> list[Builder[Panel]]:
    """Messages, and the books of both."""
    return [
        lines(
            "消息去向 / Where messages go",
            "收到应等于提交 + 重复 + 拒绝；收到高于其和表示积压。"
            " / Received equals the sum of the others; above it, messages pile up. Many duplicates: "
            "a gateway or the broker sends again.",
            units.MessagesPerSecond,
            _flow("messages"),
        ),
        lines(
            "处理中 / In flight",
            "已收到、尚未提交的消息和读数；持续处于高位表示数据库跟不上。"
            " / Received and not yet committed; flat at its ceiling means that the database does not "
            "keep up.",
            units.Short,
            {
                "消息 / messages": f"sum({of_worker('ganzhi_messages_in_flight')})",
                "读数 / readings": f"sum({of_worker('ganzhi_readings_in_flight')})",
            },
        ),
        lines(
            "按路由 / By route",
            "某一路由降到零而其余正常：该类来源或其桥接停止。"
            " / One route at zero while others run: that kind of source, or the bridge it comes "
            "through, has stopped.",
            units.MessagesPerSecond,
            {"{{route}}": rate("ganzhi_messages_received_total", "route")},
        ),
        lines(
            "消息拒绝原因 / Messages rejected, by reason",
            "整条消息被拒绝；突增多为某网关新固件或配置错误。"
            " / Nothing of the message could be stored; a step up is usually one gateway's new "
            "firmware. `ganzhi rejections list` names it.",
            units.MessagesPerSecond,
            {
                "{{reason}}": rate("ganzhi_messages_rejected_total", "reason"),
                "未存储 / unstored": rate("ganzhi_rejections_unstored_total"),
            },
        ),
        lines(
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


def readings() -> list[Builder[Panel]]:
    """Readings and events."""
    return [
        lines(
            "各领域读数 / Readings by domain",
            "每秒提交的读数；某领域下降：其网关或平台离线。other 增多：未登记的终端。"
            " / Committed per second. A domain that falls: its gateways or platform are away. Much "
            "in other: unregistered terminals.",
            units.CountsPerSecond,
            {"{{domain}}": rate("ganzhi_readings_committed_total", "domain")},
        ),
        lines(
            "读数去向 / Where readings go",
            "收到应等于提交 + 重复 + 拒绝。事件为非数值观测。"
            " / Received equals committed, duplicate and rejected together. Events are observations "
            "without a number.",
            units.CountsPerSecond,
            _flow("readings") | {"事件 / events": rate("ganzhi_events_committed_total")},
        ),
        lines(
            "读数拒绝原因 / Readings rejected, by reason",
            "time_in_future 突增：网关把本地时间写成 Z；unit_mismatch：单位配置错误。"
            " / time_in_future: a gateway writes local time as Z. unit_mismatch: a unit was set "
            "wrongly.",
            units.CountsPerSecond,
            {"{{reason}}": rate("ganzhi_readings_rejected_total", "reason")},
        ),
        lines(
            "带标记的读数 / Flagged readings",
            "已存储但存疑的读数；late 增多：网关在补传；suspect 增多：传感器超出合理范围。"
            " / Stored with a mark. Much late: a gateway catches up. Much suspect: sensors outside "
            "their plausible range.",
            units.CountsPerSecond,
            {"{{flag}}": rate("ganzhi_readings_flagged_total", "flag")},
        ),
    ]


def _flow(noun: str) -> dict[str, str]:
    """The four accounts of `messages` or `readings`, per second."""
    accounts = {
        "收到 / received": "received",
        "提交 / committed": "committed",
        "重复 / duplicate": "duplicate",
        "拒绝 / rejected": "rejected",
    }
    return {legend: rate(f"ganzhi_{noun}_{account}_total") for legend, account in accounts.items()}


def _difference(noun: str) -> str:
    """Received less every account it can be in: 0 in every scrape of every worker."""
    accounts = ("received_total", "committed_total", "duplicate_total", "rejected_total", "in_flight")
    return " - ".join(f"sum({of_worker(f'ganzhi_{noun}_{account}')})" for account in accounts)
