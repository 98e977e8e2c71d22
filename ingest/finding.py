"""A finding of `ganzhi check`: one line of what was looked at, what was found, and what to do. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How a check came out: `warn` works, but not as promised or not for ever; `fail` does not work."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """What came of one check. `out_of_reach`: the broker or database could not be spoken to at all."""

    name: str
    level: Level
    found: str
    advice: str = ""
    out_of_reach: bool = False


def ok(name: str, found: str) -> Finding:
    """A check that came out well."""
    return Finding(name, Level.OK, found)


def warn(name: str, found: str, advice: str) -> Finding:
    """Something that will hurt later, or that could not be found out."""
    return Finding(name, Level.WARN, found, advice)


def fail(name: str, found: str, advice: str, *, out_of_reach: bool = False) -> Finding:
    """Something that does not work."""
    return Finding(name, Level.FAIL, found, advice, out_of_reach)


def redact(text: str, secrets: Iterable[str]) -> str:
    """The text with every secret in it replaced: libraries quote what they were given."""
    for secret in secrets:
        text = text.replace(secret, "***")
    return text
