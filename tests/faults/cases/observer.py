"""The observer is killed: who was heard, and when, stays exact."""

import random
import time
from collections import defaultdict

import numpy as np
import psycopg
from pyroaring import BitMap

from devices.states import EPOCH_SECONDS
from tests.faults.case import case
from tests.faults.cases.worker import COMMIT_DONE, COMMIT_SENT
from tests.faults.obligations import TERMINALS
from tests.faults.stand import Stand
from tests.proxy import Proxy
from tests.worker import Metrics

GATEWAYS = 4
SILENT = 200
"""Terminals that are registered and never say anything."""
REGISTER = """
INSERT INTO terminal (id, code, scheme, division, domain, gateway, state, installed_on, report_every)
SELECT row_number() OVER (), format('faults-%%s-%%s', g, n), 'other', 370102, 'municipal', 'faults-' || g, 'installed',
       date '2026-01-01', interval '10 minutes'
FROM generate_series(0, %(gateways)s - 1) AS g, generate_series(0, %(terminals)s - 1) AS n
UNION ALL
SELECT %(gateways)s * %(terminals)s + n, 'silent-' || n, 'other', 370102, 'municipal', 'faults-0', 'installed',
       date '2026-01-01', interval '10 minutes'
FROM generate_series(1, %(silent)s) AS n
"""
KEEP = (
    "CREATE TABLE kept (LIKE heard)",
    """CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql
       AS $$ BEGIN INSERT INTO kept SELECT NEW.*; RETURN NEW; END $$""",
    "CREATE TRIGGER keep AFTER INSERT ON heard FOR EACH ROW EXECUTE FUNCTION keep()",
)
"""What workers ever said, also after the observer has taken it."""
SNAPSHOT = b"INSERT INTO presence"
FIRST_HEARD = (
    "SELECT id, extract(epoch FROM first_heard_at)::float8 FROM terminal WHERE first_heard_at IS NOT NULL"
)
QUALITY = "SELECT hour, division, unflagged, received FROM quality ORDER BY 1, 2"
SAID_QUALITY = """
SELECT date_trunc('hour', heard_at), city::int, sum((counted ->> 0)::bigint), sum((counted ->> 1)::bigint)
FROM kept, jsonb_each(quality) AS said (city, counted) GROUP BY 1, 2 ORDER BY 1, 2
"""
BACKEND = "SELECT FROM pg_stat_activity WHERE application_name = 'ganzhi observe'"


@case(120, size=25, short=1)
def observer_killed(stand: Stand, size: int) -> None:
    """SIGKILL of the observer so often: before, in and after its snapshot's transaction, and at random moments."""
    register(stand)
    stand.execute(*KEEP)
    proxy = stand.proxy(stand.server.port)
    worker = stand.worker()
    stand.publish(300, gateways=GATEWAYS)
    stand.warm_up()
    url = stand.url.replace(f":{stand.server.port}/", f":{proxy.port}/")
    observer = stand.observer(database_url=url, observe_seconds=0.2)
    for number in range(size):
        _wait_moment(proxy, (number + 2) % 4)
        observer.kill()
        proxy.cut()
        stand.wait(lambda: not stand.rows(BACKEND), "rid of the observer's connection")
        observer.start()
    stand.healed()
    stand.fleet.stop(60)
    worker.wait(lambda m: m("messages_received_total") and not m("messages_in_flight"), "done")
    observer.wait(right, "right about who is live")
    assert observer.terminate() == 0
    stand.faults += _differences(stand)


def register(stand: Stand) -> None:
    """Register what the gateways' readings are of, and some that are silent."""
    with psycopg.connect(stand.url) as conn:
        conn.execute(REGISTER, {"gateways": GATEWAYS, "terminals": TERMINALS, "silent": SILENT})


def right(metrics: Metrics) -> bool:
    """Whether the observer says of the registered ones what is so, once all gateways have been through theirs."""
    live, silent = (metrics("terminals", "370100", "municipal", state) for state in ("live", "never_heard"))
    return (live, silent, metrics("terminals_verified")) == (GATEWAYS * TERMINALS, SILENT, live)


def _wait_moment(proxy: Proxy, which: int) -> None:
    """Until the observer's first snapshot begins, is to be committed, is committed; or some time."""
    if not which:
        time.sleep(random.uniform(0, 4))  # it has counted 2 s after its start
        return
    begins = proxy.trap(SNAPSHOT, "client")
    assert begins.caught.wait(30), "the observer stores no snapshot"
    if which > 1:
        ends = proxy.trap(COMMIT_SENT, "client") if which == 2 else proxy.trap(COMMIT_DONE, "server")
        begins.release()
        assert ends.caught.wait(30), "the snapshot is not committed"


def _differences(stand: Stand) -> list[str]:
    """What the observer left in the database in all its lives, where it is not what workers said."""
    times: dict[int, list[float]] = defaultdict(list)
    for at, terminals in stand.rows("SELECT extract(epoch FROM heard_at)::float8, terminals FROM kept"):
        for id_ in BitMap.deserialize(terminals) if terminals else ():
            times[id_].append(at)
    last, first = ({id_: pick(found) for id_, found in times.items()} for pick in (max, min))
    stand.notes.append(f"{len(times)} terminals heard, {sum(map(len, times.values())):,} times")
    left = {
        "when who was last heard": (_presence(stand), {id_: int(at) for id_, at in last.items()}),
        "when who was first heard": (dict(stand.rows(FIRST_HEARD)), first),
        "the quality": (stand.rows(QUALITY), stand.rows(SAID_QUALITY)),
        "what is left to be taken": (stand.count("heard"), 0),
    }
    return [f"{what} is not what workers said" for what, (ours, said) in left.items() if ours != said]


def _presence(stand: Stand) -> dict[int, int]:
    """Unix seconds by terminal."""
    return {
        first_id + place: EPOCH_SECONDS + seconds
        for first_id, column in stand.rows("SELECT first_id, heard FROM presence")
        for place, seconds in enumerate(np.frombuffer(column, "<i4").tolist())
        if seconds
    }
