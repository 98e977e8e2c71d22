"""The dashboard Ingest: the way of a reading through the workers. Is it OK, then message by message to the commit."""

from grafana_foundation_sdk.builders.dashboard import Dashboard
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import units
from grafana_foundation_sdk.models.dashboard import Panel

from grafana.board import dashboard, fill, instance_variable, job_variable, prometheus_variable
from grafana.ingest_flow import messages, readings
from grafana.panels import BAD_ABOVE_ZERO, STUCK_SECONDS, UP, alerts, firing, lines, number, state
from grafana.queries import WORKER, of_observer, of_worker, quantiles, rate

SESSIONS_LOST = of_worker("ganzhi_sessions_lost_total")


def _is_it_ok() -> list[Builder[Panel]]:
    return [
        firing(),
        state(
            "工作进程 / Workers",
            "红色：一天内见过的某个工作进程不再应答；先看它的容器和日志。"
            " / Red when a worker that answered within the last day no longer does: look at its "
            "container and its log.",
            f"min(up{{{WORKER}}} and on (job, instance) last_over_time(ganzhi_build_info{{{WORKER}}}[1d]))",
        ),
        state(
            "MQTT 代理 / Broker",
            "任一工作进程与代理断开即为红色；消息在代理或网关侧等待。"
            " / Red when any worker is without its broker: nothing comes in. Look at the broker's "
            "log, then at the worker's user name and password.",
            f"min({of_worker('ganzhi_broker_connected')})",
        ),
        state(
            "数据库 / Database",
            "红色表示数据库不接受写入；消息停留在代理中，不丢失。"
            " / Red when the database takes no writes: acknowledgements stop and messages wait in "
            "the broker, whose memory grows.",
            f"min({of_worker('ganzhi_database_up')})",
        ),
        number(
            "最早未确认 / Oldest unacknowledged",
            "正常时低于 1 秒；超过 60 秒持续 2 分钟即报警 GanzhiAcknowledgementsStuck。"
            " / Below 1 s when all is well; above 60 s for 2 minutes GanzhiAcknowledgementsStuck "
            "pages.",
            units.Seconds,
            f"max({of_worker('ganzhi_oldest_unacknowledged_seconds')})",
            STUCK_SECONDS,
        ),
        number(
            "距上次提交 / Since last commit",
            "最慢的工作进程距上次提交的时间；有消息到达却持续增长为异常，无数据表示尚未提交过。"
            " / The slowest worker's; bad when it grows while messages arrive. No data: nothing "
            "committed since the start.",
            units.Seconds,
            f"max(time() - ({of_worker('ganzhi_last_commit_timestamp_seconds')} > 0))",
            STUCK_SECONDS,
        ),
        number(
            "24 小时内丢失会话 / Sessions lost, 24 h",
            "大于 0：代理丢失了会话，其间到达的消息可能未排队。"
            " / Above 0 the broker had forgotten a worker's session: what came meanwhile was not "
            "queued. Check its persistence and session expiry.",
            units.Short,
            f"sum(increase({SESSIONS_LOST}[24h])) > 0 or "
            # Found lost when the worker started, which is no increase.
            f"sum({SESSIONS_LOST} unless on (job, instance) {SESSIONS_LOST} offset 24h) "
            f"or 0 * sum({SESSIONS_LOST})",
            BAD_ABOVE_ZERO,
        ).decimals(0),
        number(
            "消息速率 / Messages",
            "收到的消息。红色表示没有任何消息到达：检查网关与代理。"
            " / Received. Red when nothing arrives at all: look at the gateways and at the broker's "
            "access list.",
            units.MessagesPerSecond,
            rate("ganzhi_messages_received_total"),
            {None: "red", 0.001: "green"},
        ),
        alerts(),
    ]


def _writing() -> list[Builder[Panel]]:
    return [
        lines(
            "提交耗时 / Commit time",
            "一个批次的事务耗时；p95 超过 1 秒：数据库磁盘或锁有问题。"
            " / One batch's transaction. p95 above 1 s: the database's disk is slow or something "
            "holds a lock.",
            units.Seconds,
            quantiles("ganzhi_commit_seconds"),
            {None: "green", 1: "red"},
        ),
        lines(
            "入库延迟 / Ingest lag",
            "消息到达至提交；p95 超过 5 秒：服务跟不上，先看提交耗时。"
            " / A message's arrival to its commit. p95 above 5 s: the service does not keep up; look "
            "at the commit time first.",
            units.Seconds,
            quantiles("ganzhi_ingest_lag_seconds"),
            {None: "green", 5: "red"},
        ),
        lines(
            "观测时延 / Observation age",
            "设备时间至提交；整体升高：平台或网关延迟；p99 高：少数终端补传。"
            " / Device time to commit. All curves up: a platform is late. Only p99 up: a few "
            "terminals catch up.",
            units.Seconds,
            quantiles("ganzhi_observation_age_seconds"),
        ),
        lines(
            "批次大小 / Batch size",
            "每批读数；持续等于上限 GANZHI_BATCH_READINGS（默认 50000；每条消息一个读数时为 21844）：已满负荷。"
            " / Readings in a batch. At GANZHI_BATCH_READINGS (50,000 by default; in messages of one "
            "reading 21,844) all the time: at full load.",
            units.Short,
            quantiles("ganzhi_batch_readings"),
        ),
        lines(
            "直接压缩 / Direct compress",
            "0：写入未直接压缩，磁盘占用数倍增长；检查 reading 是否有唯一索引或触发器。postgres 存储恒为 0。"
            " / 0: rows are stored uncompressed and take several times the space; look for a unique "
            "index or a trigger on reading. Always 0 on the postgres storage.",
            units.Short,
            {"{{instance}}": of_worker("ganzhi_direct_compress")},
            UP,
        )
        .max(1)
        .span(24)
        .height(5),
    ]


def _upkeep() -> list[Builder[Panel]]:
    return [
        lines(
            "序号缺口 / Sequence gaps",
            "某来源的编号不连续：消息在到达服务之前已丢失。QoS 0 或网关缓存溢出是常见原因。"
            " / A source's numbering has holes: messages were lost before they came. QoS 0, or a gateway "
            "whose buffer ran over.",
            units.CountsPerSecond,
            {"{{source}}": rate("ganzhi_sequence_gaps_total", "source")},
        ),
        lines(
            "去重台账 / Ledger",
            "记住的消息数，应随消息速率平稳；持续增长表示有工作进程离开后未 --drain-client。"
            " / Messages remembered: level at a level rate. Growing without end: a worker left for good "
            "and was not drained (ganzhi ingest --drain-client).",
            units.Short,
            {"消息 / messages": f"max({of_observer('ganzhi_ledger_rows')})"},
        ),
        lines(
            "数据库大小 / Database size",
            "与磁盘容量对照；突然变陡：直接压缩失效或保留期未执行（ganzhi migrate --maintain）。"
            " / Against the disk's size. Suddenly steeper: direct compress is off, or retention does not "
            "run (ganzhi migrate --maintain).",
            units.BytesIEC,
            {"大小 / size": f"max({of_observer('ganzhi_database_bytes')})"},
        ),
        lines(
            "证书到期 / Certificate expiry",
            "距所用证书到期的天数；30 天以内须更换，7 天以内报警升级。无数据：未使用 TLS。"
            " / Days until a certificate in use expires; below 30, renew it; below 7 somebody is woken. "
            "No data: no TLS in use.",
            units.Days,
            {
                "{{which}}": "min by (which) "
                f"({of_worker('ganzhi_certificate_expiry_timestamp_seconds')} - time()) / 86400"
            },
            {None: "red", 7: "yellow", 30: "green"},
        ),
    ]


def ingest() -> Dashboard:
    """The path from the broker to the commit, of the chosen workers."""
    board = dashboard(
        "ganzhi-ingest",
        "感知 · 接入 / Ganzhi · Ingest",
        "从 MQTT 代理到数据库提交的数据通路 / The path from the broker to the commit",
        hours=3,
        refresh="30s",
    )
    for variable in (
        prometheus_variable(),
        job_variable(),
        instance_variable(),
    ):
        board.with_variable(variable)
    by_row = {
        "是否正常 / Is it OK?": _is_it_ok(),
        "消息 / Messages": messages(),
        "读数 / Readings": readings(),
        "写入 / Writing": _writing(),
        "维护 / Upkeep": _upkeep(),
    }
    return fill(board, by_row)
