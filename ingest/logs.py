"""What a service says while it runs: a line an event, on standard error; JSON, or for people on a terminal.

Every line has `event`, a name that docs/logs.md explains, whoever speaks: libraries and faults that nobody
caught come under names too. An event has so many lines a minute and no more, whatever storm there is; the
next line of it says how many were left out. Lines are said on any thread. One that can't be written, on a
full disk say, is lost: what is said never stops what is done.
"""

import logging
import re
import sys
import threading
import time
from collections.abc import Callable, Hashable
from contextlib import suppress
from types import TracebackType
from typing import Any, TextIO

import structlog
from structlog.typing import EventDict, WrappedLogger

from ingest.quota import PerMinute

log = structlog.get_logger()
LINES_A_MINUTE = 20
"""Of one event: enough for every filter of a worker, and 6 MB a day where one never stops."""
VALUE_CHARACTERS = 1_000
"""Of a value: a topic has up to 65,535. Tracebacks are as long as they are."""
FIRST = ("timestamp", "level", "event")
MOVES = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
"""What begins a line, moves the cursor or turns the direction: a topic must not write a line of its own."""


def configure_logs() -> None:
    """Let everything that this process says be events: ours, those of libraries, and faults that nobody caught."""
    person = sys.stderr.isatty()
    render: Any = (
        structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback, sort_keys=False)
        if person
        else structlog.processors.JSONRenderer(ensure_ascii=False)
    )
    if not person and hasattr(sys.stderr, "reconfigure"):
        sys.stderr.reconfigure(encoding="utf-8")
    structlog.configure(
        processors=[
            Limit(time.monotonic),
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            readable,
            render,
        ],
        logger_factory=structlog.PrintLoggerFactory(_Unfailing(sys.stderr)),  # type: ignore[arg-type]
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(handlers=[Libraries(logging.WARNING)])
    logging.captureWarnings(capture=True)
    sys.excepthook = _failed
    threading.excepthook = lambda fault: _failed(
        fault.exc_type, fault.exc_value or fault.exc_type(), fault.exc_traceback
    )


class _Unfailing:
    """A stream that may be full or closed at its other end."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        with suppress(OSError, ValueError):
            self._stream.write(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            self._stream.flush()


class Limit:
    """Drops the lines of an event beyond `LINES_A_MINUTE`; the next one that is said has how many, `suppressed`.

    Of libraries each one's warnings and each one's errors count by themselves: a chatty one hides no other.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._quotas: dict[Hashable, PerMinute] = {}
        self._suppressed: dict[Hashable, int] = {}

    def __call__(self, _logger: WrappedLogger, method: str, line: EventDict) -> EventDict:
        event = (line["event"], line["library"], method) if "library" in line else line["event"]
        with self._lock:
            if not self._quotas.setdefault(event, PerMinute(LINES_A_MINUTE, self._clock)).take():
                self._suppressed[event] = self._suppressed.get(event, 0) + 1
                raise structlog.DropEvent
            if suppressed := self._suppressed.pop(event, 0):
                line["suppressed"] = suppressed
        return line


def readable(_logger: WrappedLogger, _method: str, line: EventDict) -> EventDict:
    """Time, level and name first; texts from outside on one line and not endless."""
    ordered = [(key, line.pop(key)) for key in FIRST] + list(line.items())
    return {key: value if key == "exception" else _plain(value) for key, value in ordered}


def _plain(value: object) -> object:
    if not isinstance(value, str):
        return value
    cut = value if len(value) <= VALUE_CHARACTERS else f"{value[:VALUE_CHARACTERS]}…"
    return MOVES.sub(lambda found: ascii(found[0])[1:-1], cut)


class Libraries(logging.Handler):
    """Warnings and errors of libraries, as events."""

    def emit(self, record: logging.LogRecord) -> None:
        """One record, one event; one whose values do not fit its text is said as it is."""
        say = log.error if record.levelno >= logging.ERROR else log.warning
        try:
            reason = record.getMessage()
        except Exception:  # noqa: BLE001  a library's slip must not end what it was doing
            reason = str(record.msg)
        say("library_message", library=record.name, reason=reason, exc_info=record.exc_info)


def _failed(kind: type[BaseException], fault: BaseException, trace: TracebackType | None) -> None:
    """The process or a thread ends by a fault of ours; Ctrl-C is none."""
    if not issubclass(kind, KeyboardInterrupt):
        log.critical("failed", exc_info=(kind, fault, trace))
