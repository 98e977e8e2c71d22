"""Gaps on a real database: what the observer stores, and the on-call's commands."""

from datetime import UTC, datetime, timedelta

import pytest
from psycopg.errors import CheckViolation
from typer.testing import CliRunner

from devices.gap import Decision, Gap
from devices.gaps import RETURN_SECONDS
from ingest import gaps
from ingest.cli import app
from ingest.connection import connect
from ingest.terminal import CommandError

NOW = 1_795_300_000.5
GATEWAY = Gap(
    "gateway_offline", 370100, None, "gw1", NOW, 40_000, 0, {"live_before": 38_000, "state": "silent"}
)
CELL = Gap("outage", 370102, "municipal", None, NOW, 200, 90, {"left": 110})
pytestmark = pytest.mark.parametrize("storage", ["postgres"])


@pytest.fixture
def conn(database):
    with connect(database.url) as connection:
        connection.execute("INSERT INTO gateway (name, division, owner, contact) "
                           "VALUES ('gw1', 370100, '济南水务', '王工 0531-1')")  # fmt: skip
        yield connection


@pytest.fixture
def ganzhi(database, conn):
    def run(*arguments, code=0):
        done = CliRunner().invoke(app, arguments, env={"GANZHI_DATABASE_URL": database.url, "COLUMNS": "250"})
        assert done.exit_code == code, done.output
        return done.output

    return run


def known(conn, after=0.0):
    return gaps.read(conn, NOW + after)[0]


def test_gaps_are_read_as_they_were_written(conn):
    """What opened is known with an id; figures change; what closed is known for a quarter of an hour, and reopens."""
    gaps.write(conn, Decision(opened=[GATEWAY, CELL]))
    first, second = known(conn)
    assert (first, second) == (
        Gap(**(vars(GATEWAY) | {"id": first.id})),
        Gap(**(vars(CELL) | {"id": second.id})),
    )
    worse = Gap(**(vars(first) | {"kind": "outage", "live": 7, "evidence": {"live_before": 39_000}}))
    gone = Gap(**(vars(second) | {"live": 180, "closed_seconds": NOW + 60}))
    gaps.write(conn, Decision(updated=[worse], closed=[gone]))
    assert known(conn, 60) == [worse, gone]
    assert known(conn, 61 + RETURN_SECONDS) == [worse]
    again = Gap(**(vars(gone) | {"closed_seconds": None}))
    gaps.write(conn, Decision(updated=[again]))
    assert known(conn, 61 + RETURN_SECONDS) == [worse, again]


def test_a_gap_opens_once(conn):
    """A second observer that opens the same gap changes nothing; a place may open anew as another closes."""
    gaps.write(conn, Decision(opened=[GATEWAY]))
    gaps.write(conn, Decision(opened=[GATEWAY, CELL]))
    first, second = known(conn)
    closed = Gap(**(vars(first) | {"closed_seconds": NOW + 1}))
    gaps.write(conn, Decision(opened=[GATEWAY], closed=[closed]))
    assert [gap.gateway for gap in known(conn, 2 * RETURN_SECONDS)] == [None, "gw1"]
    assert second.id


def test_what_cannot_be_stored_leaves_everything_as_it_was(conn):
    """A round is stored whole or not at all."""
    gaps.write(conn, Decision(opened=[GATEWAY]))
    (first,) = known(conn)
    closed = Gap(**(vars(first) | {"closed_seconds": NOW + 1}))
    wrong = Gap(**(vars(CELL) | {"kind": "unheard_of"}))
    with pytest.raises(CheckViolation):
        gaps.write(conn, Decision(opened=[wrong], closed=[closed]))
    assert known(conn) == [first]


def test_acknowledging(conn, database, ganzhi):
    """The first to acknowledge stays, in the gap and in audit; figures that change later leave it alone."""
    gaps.write(conn, Decision(opened=[GATEWAY]))
    (gap,) = known(conn)
    assert "acknowledged by 李工" in ganzhi("gaps", "ack", str(gap.id), "--by", "李工")
    assert "before, by 李工" in ganzhi("gaps", "ack", str(gap.id))
    gaps.write(conn, Decision(updated=[Gap(**(vars(gap) | {"live": 5}))]))
    assert gaps.show(conn, gap.id).acknowledged_by == "李工"
    assert (gap.acknowledged, known(conn)[0].acknowledged) == (False, True)
    assert database.rows("SELECT action, subject, detail ->> 'gateway', detail ->> 'by' FROM audit") == [
        ("gaps ack", str(gap.id), "gw1", "李工")
    ]
    with pytest.raises(CommandError, match="no gap 99"):
        gaps.acknowledge(conn, 99)


def test_the_list_says_where_and_whom_to_call(conn, ganzhi):
    """Place in Chinese and English, figures, owner and contact, Shandong's time; the largest first, a city its own."""
    assert "no gaps" in ganzhi("gaps", "list")
    gaps.write(conn, Decision(opened=[CELL, GATEWAY]))
    first, second = gaps.list_gaps(conn)
    assert (first.gateway, second.domain) == ("gw1", "municipal")
    table = ganzhi("gaps", "list")
    opened = f"{datetime.fromtimestamp(NOW, UTC) + timedelta(hours=8):%Y-%m-%d %H:%M}"
    for part in ("since +08", "济南市", "Jinan", "历下区", "网关离线 gateway_offline", "大面积掉线 outage", "40,000",
                 "济南水务", "王工 0531-1", opened):  # fmt: skip
        assert part in table
    assert [gap.id for gap in gaps.list_gaps(conn, 370102)] == [second.id]
    assert gaps.list_gaps(conn, 370200) == []
    gaps.write(conn, Decision(closed=[Gap(**(vars(known(conn)[0]) | {"closed_seconds": NOW}))]))
    assert len(gaps.list_gaps(conn)) == 1
    assert len(gaps.list_gaps(conn, closed=True)) == 2
    shown = ganzhi("gaps", "show", str(first.id))
    for part in ("evidence live_before", "38000", "evidence state", "silent", "0 of 40,000", "王工 0531-1"):
        assert part in shown
    assert "ganzhi gaps list --all" in ganzhi("gaps", "show", "99", code=1)
    assert "division '37'" in ganzhi("gaps", "list", "--division", "37", code=2)


def test_maintenance_is_planned_and_known_to_the_observer(conn, database, ganzhi):
    """What is planned is listed, read until it is over, and stands in audit; a time without a zone is Shandong's."""
    span = ("--from", "2026-12-01T22:00+08:00", "--to", "2026-12-02T02:00", "--reason", "[/换卡]")
    assert "no maintenance" in ganzhi("maintenance", "list")
    said = ganzhi("maintenance", "add", "--gateway", "gw1", *span)
    assert "2026-12-01 22:00:00+08 to 2026-12-02 02:00:00+08" in said
    ganzhi("maintenance", "add", "--division", "370102", "--domain", "energy", *span)
    start, end = (
        datetime(2026, 12, 1, 14, tzinfo=UTC).timestamp(),
        datetime(2026, 12, 1, 18, tzinfo=UTC).timestamp(),
    )
    _, planned = gaps.read(conn, start)
    assert [row[1:] for row in planned] == [
        (None, None, "gw1", start, end),
        (370102, "energy", None, start, end),
    ]
    assert gaps.read(conn, end)[1] == []
    assert database.one("SELECT count(*) FROM audit WHERE action = 'maintenance add'") == (2,)
    listed = ganzhi("maintenance", "list")
    for part in ("[/换卡]", "历下区", "energy", "gw1", "2026-12-01 22:00", "postgres"):
        assert part in listed


def test_maintenance_that_makes_no_sense(database, ganzhi):
    """It is refused with the reason, and nothing is planned."""
    span = ("--from", "2026-12-01", "--to", "2026-12-02", "--reason", "x")
    for arguments, code, text in (
        (("--gateway", "gw1", "--division", "370102"), 2, "one of the two"),
        ((), 2, "one of the two"),
        (("--gateway", "nobody"), 1, "no gateway nobody"),
        (("--gateway", "gw1", "--domain", "energy"), 2, "goes with --division"),
        (("--division", "370102", "--domain", "water"), 2, "manufacturing 制造"),
        (("--division", "999999"), 2, "999999"),
        (("--division", "370102", "--to", "2026-11-30"), 2, "is not before"),
    ):
        assert text in " ".join(ganzhi("maintenance", "add", *span, *arguments, code=code).split())
    assert database.one("SELECT count(*) FROM planned_maintenance") == (0,)
