"""Rejections, replayed after a fix: what lands, what stays, and that it happens once."""

import json
import subprocess
import sys
import time

import pytest

from ingest.batch import Batch
from ingest.decode import Decode
from ingest.settings import Settings
from ingest.write import Writer
from schemas.message import Message
from schemas.routes import Routes
from tests.worker import environment

TOPIC = "ganzhi/v1/370102/gw1/telemetry"
SERIES = "SELECT terminal, metric, value FROM reading_detail ORDER BY value"


def write(database, *payloads, **settings):
    """Write payloads as a worker with these settings would."""
    writer = Writer(Settings(database_url=database.url, **settings), "test-0", lambda _: False, time.time)
    decode, batch = Decode(Routes.default(), 1_000_000, writer.registry), Batch()
    for payload in payloads:
        message = Message(TOPIC, json.dumps(payload).encode(), time.time())
        way, parts = decode(message)
        batch.add(message, way.place, parts)
    writer.write(batch)
    writer.close()


def ganzhi(database, *arguments, **settings):
    """The command, with these settings; its output and exit code."""
    command = [sys.executable, "-m", "ingest.cli", "rejections", *arguments]
    variables = environment(database_url=database.url, **settings)
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr, done.returncode


@pytest.fixture
def refused(database):
    """Three readings of a terminal that nobody registered, one of them far out of range."""
    pack = [{"n": "meter:1/temperature", "t": time.time(), "v": v} for v in (20.0, 5000.0, 21.0)]
    write(database, pack, unknown_terminals="reject")
    assert database.one("SELECT reason, rejected, total FROM rejection") == ("unknown_terminal", 3, 3)
    return database


def test_a_replay_stores_what_is_right_now_and_keeps_the_rest(refused):
    """What is still wrong stays open, under the reason that it has now."""
    text, code = ganzhi(refused, "replay")
    assert code == 0, text
    assert refused.rows(SERIES) == [("meter:1", "temperature", 20.0), ("meter:1", "temperature", 21.0)]
    reason, rejected, resolved, detail = refused.one(
        "SELECT reason, rejected, resolved_at, detail FROM rejection"
    )
    assert (reason, rejected, resolved) == ("out_of_range", 1, None)
    assert [entry["index"] for entry in detail] == [1]
    action, subject, said = refused.one("SELECT action, subject, detail FROM audit")
    assert (action, subject) == ("rejections replay", "1 to 1")
    assert (said["readings"], said["refused"], said["reason"]) == (2, 1, None)


def test_a_replay_happens_once(refused):
    """Replayed again, by anyone, nothing is stored twice; nobody counts as heard."""
    for _ in range(3):
        assert ganzhi(refused, "replay")[1] == 0
    assert len(refused.rows(SERIES)) == 2
    assert refused.rows("SELECT 1 FROM heard WHERE terminals IS NOT NULL") == []


def test_what_is_right_altogether_is_resolved(database):
    """The rejection is marked, and listed no more."""
    write(database, [{"n": "meter:1/temperature", "t": time.time(), "v": 20.0}], unknown_terminals="reject")
    assert "meter:1" in ganzhi(database, "list")[0]
    assert ganzhi(database, "replay", "--reason", "unknown_terminal")[1] == 0
    assert "no rejections" in ganzhi(database, "list")[0]
    assert "meter:1" in ganzhi(database, "list", "--all")[0]
    assert database.one("SELECT count(*) FROM rejection WHERE resolved_at IS NOT NULL") == (1,)


def test_a_dry_run_stores_nothing(refused):
    """It says what a replay would do."""
    text, code = ganzhi(refused, "replay", "--dry-run")
    assert code == 0
    assert "would store 2 readings" in text
    assert refused.rows(SERIES) == []
    assert refused.rows("SELECT 1 FROM audit") == []
    assert refused.one("SELECT reason FROM rejection") == ("unknown_terminal",)


def test_a_replay_takes_what_it_is_told_to(refused):
    """Other reasons and divisions stay as they are."""
    assert "0 rejections" in ganzhi(refused, "replay", "--reason", "out_of_range")[0]
    assert "0 rejections" in ganzhi(refused, "replay", "--division", "370200")[0]
    assert "1 rejections" in ganzhi(refused, "replay", "--division", "370102", "--dry-run")[0]


def test_good_readings_of_a_refused_message_are_not_stored_again(database):
    """A replay takes the refused readings of a message, and only those."""
    at = time.time()
    pack = [{"n": "a/temperature", "t": at, "v": 20.0}, {"n": "b/temperature", "t": at, "v": 5000.0}]
    write(database, pack)
    ganzhi(database, "replay")
    assert database.rows(SERIES) == [("a", "temperature", 20.0)]


@pytest.mark.parametrize("storage", ["postgres"])
def test_many_that_are_refused_alike_are_kept_briefly_and_replayed_in_full(database):
    """A stretch of readings is one entry, shown with its places and what was said of its first; each is stored."""
    at = time.time()
    pack = [{"n": "meter:1/temperature", "t": at - n, "v": 5000.0 if n == 30 else 20.0} for n in range(40)]
    write(database, pack, unknown_terminals="reject")
    number, reason, rejected, detail = database.one("SELECT id, reason, rejected, detail FROM rejection")
    assert (reason, rejected, len(detail)) == ("unknown_terminal", 40, 1)
    assert (detail[0]["index"], detail[0]["count"]) == (0, 40)
    assert detail[0]["detail"].startswith("'meter:1'")
    assert "0 to 39  unknown_terminal: 'meter:1'" in ganzhi(database, "show", str(number))[0]
    assert ganzhi(database, "replay")[1] == 0
    assert database.rows("SELECT count(*) FROM reading") == [(39,)]
    kept, rejected = database.one("SELECT detail, rejected FROM rejection")
    assert ([entry["index"] for entry in kept], rejected) == ([30], 1)


@pytest.mark.parametrize("storage", ["postgres"])
def test_a_message_is_found_by_each_reason_that_something_of_it_was_refused_for(database):
    """Also by the second one, by the list and by a replay."""
    at = time.time()
    write(
        database,
        [{"n": "a/temperature", "t": at + 900, "v": 20.0}, {"n": "a/temperature", "t": at, "v": 5000.0}],
    )
    for reason in ("time_in_future", "out_of_range"):
        assert "time_in_future" in ganzhi(database, "list", "--reason", reason)[0]
        assert "1 rejections" in ganzhi(database, "replay", "--reason", reason, "--dry-run")[0]
    assert "0 rejections" in ganzhi(database, "replay", "--reason", "unit_mismatch", "--dry-run")[0]


def test_show_gives_the_payload_as_it_came(refused):
    """With --raw it is the bytes and nothing else."""
    (number,) = refused.one("SELECT id FROM rejection")
    text, code = ganzhi(refused, "show", str(number), "--raw")
    assert code == 0
    assert json.loads(text)[1]["v"] == 5000.0
    assert ganzhi(refused, "show", "4711")[1] == 1


@pytest.mark.parametrize("storage", ["postgres"])
def test_one_that_is_too_wide_holds_up_no_other(database):
    """A rejection over more days than a transaction may touch stays open; those around it are stored."""
    begin = time.time() - 600 * 86_400
    wide = [{"n": "meter:wide/temperature", "t": begin + 86_400 * n, "v": 20.0} for n in range(600)]
    narrow = [[{"n": f"meter:{n}/temperature", "t": time.time(), "v": 20.0}] for n in (1, 2)]
    anything = {"unknown_terminals": "reject", "max_age_days": 0}
    for payload in (narrow[0], wide, narrow[1]):
        write(database, payload, **anything)
    text, code = ganzhi(database, "replay", max_age_days=0)
    assert code == 0, text
    assert database.rows("SELECT terminal FROM reading_detail ORDER BY 1") == [("meter:1",), ("meter:2",)]
    assert database.rows("SELECT total FROM rejection WHERE resolved_at IS NULL") == [(600,)]
