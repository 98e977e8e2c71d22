"""The log: names and keys as docs/logs.md has them, so many lines a minute, and no line of anybody else's making."""

import ast
import json
import os
import pty
import re
import subprocess
import sys
from collections import Counter
from contextlib import suppress
from functools import cache
from pathlib import Path

import pytest
import structlog

from ingest.logs import LINES_A_MINUTE, VALUE_CHARACTERS, Limit, readable

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/logs.md").read_text()
LEVELS = {"exception": "error"}
CALLS = {"debug", "info", "warning", "error", "exception", "critical"}
ALWAYS = {"timestamp", "level", "event", "suppressed"}
EVERYWHERE = {"client_id"}
"""Bound to the logger of a transport, so not in its calls."""


@cache
def said():
    """Event, level and keys of every call that logs."""
    return list(calls())


def calls():
    for path in [*(ROOT / "ingest").rglob("*.py"), *(ROOT / "devices").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            if node.func.attr not in CALLS or ast.unparse(node.func.value) not in {"log", "self._log"}:
                continue
            keys = {"exception" if k.arg == "exc_info" else k.arg for k in node.keywords}
            keys |= {"exception"} if node.func.attr == "exception" else set()
            for event in events(node.args[0]):
                yield event, LEVELS.get(node.func.attr, node.func.attr), keys


def events(first):
    """The names that a call's first argument may be."""
    if isinstance(first, ast.Constant):
        return [first.value]
    assert ast.unparse(first) == "lost.event", "an event is a name, written out where it is logged"
    sources = "".join(path.read_text() for path in (ROOT / "ingest/mqtt").glob("*.py"))
    return sorted(set(re.findall(r'"(broker_(?:lost|refused|unreachable))"', sources)))


def table(title):
    """Rows of a table of the page, its code spans taken apart."""
    section = PAGE.split(f"## {title}")[1].split("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("| `")]
    return [[re.findall(r"`(\w+)`", row[0]), *row[1:]] for row in rows]


def test_the_page_names_every_event_with_its_levels():
    """docs/logs.md has each event of the code, and no other, with the levels that it is logged at."""
    code = {}
    for event, level, _ in [
        *said(),
        ("library_message", "warning", set()),
        ("library_message", "error", set()),
    ]:
        code.setdefault(event, set()).add(level)
    assert {row[0][0]: set(row[1].split(", ")) for row in table("Events")} == code
    assert len(table("Events")) == len(code)


def test_the_page_names_every_key():
    """docs/logs.md has the keys of each event, and says of each key once what it means."""
    code = {}
    for event, _, keys in [*said(), ("library_message", "", {"library", "reason", "exception"})]:
        code.setdefault(event, set()).update(keys)
    page = {row[0][0]: set(re.findall(r"`(\w+)`", row[2])) for row in table("Events")}
    assert {event: keys - EVERYWHERE for event, keys in page.items()} == {
        event: keys - EVERYWHERE for event, keys in code.items()
    }
    explained = Counter(key for row in table("Keys") for key in row[0])
    assert explained == Counter(set().union(*page.values()))


def test_events_are_names():
    """An event is a name of small letters, and a key is never one of those that every line has."""
    for event, _, keys in said():
        assert re.fullmatch(r"[a-z]+(_[a-z]+)*", event)
        assert not keys & ALWAYS


def run(*arguments, **options):
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, stderr=subprocess.PIPE, check=False, timeout=60,
                          **options)  # fmt: skip


@pytest.mark.parametrize(
    ("storm", "times", "event"),
    [
        ("broker", 10_000, "broker_lost"),
        ("database", 10_000, "database_unavailable"),
        ("garbage", 10_000, "decoder_failed"),
    ],
)
def test_a_storm_writes_so_many_lines(storm, times, event):
    """Broken connections, refusals of the database and failing decoders say what happens, and then no more."""
    done = run("-m", "tests.storm", storm, str(times))
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert done.returncode == 0, done.stderr[-2000:]
    assert {line["event"] for line in lines} == {event}
    minutes = 2
    assert LINES_A_MINUTE <= len(lines) <= LINES_A_MINUTE * minutes
    assert all(list(line)[:3] == ["timestamp", "level", "event"] for line in lines)


def test_what_was_left_out_is_counted():
    """Each event has lines of its own a minute; the first of the next says how many were not said."""
    now = 0.0
    limit = Limit(lambda: now)
    for _ in range(LINES_A_MINUTE):
        assert "suppressed" not in limit(None, "info", {"event": "often"})
    for _ in range(3):
        with pytest.raises(structlog.DropEvent):
            limit(None, "info", {"event": "often"})
    assert limit(None, "info", {"event": "seldom"}) == {"event": "seldom"}
    now = 60.0
    assert limit(None, "info", {"event": "often"}) == {"event": "often", "suppressed": 3}
    assert limit(None, "info", {"event": "often"}) == {"event": "often"}


@pytest.mark.parametrize("text", ["a\n{}", "a\r", "\x1b[2J", "\x9b1m", "\u202eabc", "\u2028", "x" * 65_535])
def test_texts_from_outside_stay_on_their_line(text):
    """What begins a line, moves the cursor, turns the direction or never ends is spelt out or cut."""
    line = {"event": "e", "timestamp": "t", "level": "info", "topic": text}
    shown = readable(None, "info", line)["topic"]
    assert shown.isprintable()
    assert len(shown) <= VALUE_CHARACTERS + 1


FOREIGN = """
import logging, threading, warnings
from ingest.logs import configure_logs, log
configure_logs()
logging.getLogger("uvicorn.error").warning("Invalid HTTP request received. %s", "感知\\n2026 forged")
warnings.warn("deprecated")
thread = threading.Thread(target=lambda: 1 / 0)
thread.start()
thread.join()
log.warning("own", reason="感知\\n2026 forged", secret_free=True)
raise RuntimeError("a fault that nobody caught")
"""


def test_whoever_speaks_every_line_is_an_event():
    """Libraries, warnings, threads and the fault that ends the process come as JSON lines with a name."""
    done = run("-c", FOREIGN)
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert [line["event"] for line in lines] == ["library_message"] * 2 + ["failed", "own", "failed"]
    assert lines[0]["reason"] == "Invalid HTTP request received. 感知\\n2026 forged"
    assert "感知" in done.stderr.decode()
    assert "ZeroDivisionError" in lines[2]["exception"]
    assert "a fault that nobody caught" in lines[-1]["exception"]
    assert done.returncode == 1


SLIPS = """
import logging
from ingest.logs import configure_logs, log
configure_logs()
for n in range(25):
    logging.getLogger("chatty").warning("%d", n)
logging.getLogger("asyncio").error("%d bytes", "no number")
logging.getLogger("chatty").error("serious")
"""


def test_no_library_hides_another_or_stops_what_it_does():
    """A storm of one library's warnings leaves another's error and its own; values that do not fit raise nothing."""
    done = run("-c", SLIPS)
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert done.returncode == 0
    assert [line["library"] for line in lines] == ["chatty"] * LINES_A_MINUTE + ["asyncio", "chatty"]
    assert [line["reason"] for line in lines[-2:]] == ["%d bytes", "serious"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_line_that_cannot_be_written_stops_nothing():
    """Where the disk under the log is full, lines are lost and the process goes on."""
    code = "from ingest.logs import configure_logs, log; configure_logs(); log.info('a'); log.info('b'); print('on')"
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, stderr=full, check=False,
                              timeout=60)  # fmt: skip
    assert done.stdout == b"on\n"


def read_all(terminal):
    """What is left in a terminal that nobody writes to any more: Linux ends it with EIO."""
    found = b""
    with suppress(OSError):
        while more := os.read(terminal, 4096):
            found += more
    os.close(terminal)
    return found.decode()


def test_on_a_terminal_it_is_for_people():
    """The same on a terminal: a line an event without braces, and tracebacks without values of variables."""
    ours, theirs = pty.openpty()
    code = FOREIGN.replace("1 / 0", "[1 for password in ['hush'] if 1 / 0]")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, stderr=theirs, check=False, timeout=60)
    os.close(theirs)
    shown = read_all(ours)
    assert done.returncode == 1
    assert "library_message" in shown
    assert "\n2026 forged" not in shown
    assert "ZeroDivisionError" in shown
    assert "password =" not in shown
