"""A sender's name for a series, taken apart into terminal code and metric.

Two forms come in: a resolved SenML name in one string, and a pair where the format keeps them
apart. In a string the last part that starts with a letter is the metric, so an address whose last
group happens to (`2001:db8::a`, `02:42:ac:11:00:fe`) reads as code and metric; nothing in the
string could tell. What the code identifies and whether the metric is known is not decided here.
"""

import re

from schemas.catalogue import metric_of_unit
from schemas.reading import Name

MAX_CODE_CHARACTERS = 256
"""The longest identifiers (Handle with suffix, Sparkplug group/edge/device) are under 256."""
MAX_METRIC_CHARACTERS = 128
MAX_NAME_CHARACTERS = MAX_CODE_CHARACTERS + 1 + MAX_METRIC_CHARACTERS
"""Of both in one string. A base name stands before each of 100,000 names: unbounded, 1 MiB became 16 GB."""

_SENML = re.compile(r"[A-Za-z0-9][A-Za-z0-9\-:./_]*")
"""RFC 8428, section 4.5.1."""
_PATH = re.compile(r"(.+/|(?i:urn:).+:)([0-9]{1,5}/[0-9]{1,5}/[0-9]{1,5})")
"""Code with its separator, and object/instance/resource of LwM2M; object ids are 16 bits."""
_PATH_ALONE = re.compile(r"/[0-9]+/[0-9]+(/[0-9]+){0,2}|[0-9]{1,5}(/[0-9]{1,5}){2}")
_DEVICE = re.compile(
    r"""(?i:urn:dev:(?:mac|ow|org|os|ops):)[A-Za-z0-9._-]+         # RFC 9039, section 4
      | (?i:urn:imei:)[0-9]+
      | (?i:urn:uuid:)[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}  # RFC 9562; an LwM2M endpoint name
      | did:bid:(?:[a-z0-9]{4}:)?[ezs][fst][A-Za-z0-9_-]{22,42}    # Xinghuo BID; no metric is as long
    """,
    re.VERBOSE,
)
"""Names that are a whole device, although the last part may start with a letter."""
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]")
"""Controls, invisible and direction marks (two codes that look alike), halves of surrogate pairs."""
_LETTER = re.compile(r"[A-Za-z]")


class InvalidName(ValueError):  # noqa: N818 - named as its reason is
    """A name without terminal or metric, or with characters that none may have (reason `invalid_name`)."""

    def __init__(self, detail: str, hint: str) -> None:
        super().__init__(detail)
        self.detail, self.hint = detail, hint


def split(name: Name, unit: str | None) -> tuple[str, str]:
    """Terminal code and metric of a name, both as sent; the metric by `unit` where the name has none.

    Raises `InvalidName`.
    """
    code, metric = _split_senml(name, unit) if isinstance(name, str) else name
    _check("terminal code", code, MAX_CODE_CHARACTERS)
    _check("metric", metric, MAX_METRIC_CHARACTERS)
    return code, metric


def _split_senml(name: str, unit: str | None) -> tuple[str, str]:
    if not _SENML.fullmatch(name):
        raise _not_senml(name)
    if path := _PATH.fullmatch(name):
        return path[1][:-1], path[2]
    if _PATH_ALONE.fullmatch(name):
        raise _no_terminal(name)
    at = max(name.rfind(":"), name.rfind("/"))
    if at == len(name) - 1:
        raise InvalidName(f"name {_shown(name)} ends in a separator: no metric",
                          "give the record a name n, or take the separator off bn")  # fmt: skip
    if at < 0 or _DEVICE.fullmatch(name) or not _LETTER.match(name, at + 1):
        return name, metric_of_unit(unit or "") or "value"
    return name[:at], name[at + 1 :]


def _not_senml(name: str) -> InvalidName:
    """Why a string is no SenML name."""
    if not name:
        return InvalidName("the name is empty", "set bn, n or both")
    if _PATH_ALONE.fullmatch(name):
        return _no_terminal(name)
    return InvalidName(f"name {_shown(name)} breaks RFC 8428, section 4.5.1",
                       "start with a letter or digit, then only letters, digits and - : . / _")  # fmt: skip


def _no_terminal(name: str) -> InvalidName:
    return InvalidName(f"name {_shown(name)} is an LwM2M path without its terminal",
                       "put the endpoint's name before it: urn:imei:860000000000009/3303/0/5700")  # fmt: skip


def _check(what: str, text: str, longest: int) -> None:
    """Raises `InvalidName` for what no code or metric may be."""
    if not text.strip():
        raise InvalidName(f"the {what} is empty", "name both the terminal and the metric")
    if len(text) > longest:
        raise InvalidName(f"the {what} {_shown(text)} has {len(text)} characters", f"use at most {longest}")
    if bad := _UNPRINTABLE.search(text):
        raise InvalidName(f"the {what} {_shown(text)} holds U+{ord(bad[0]):04X}",
                          "take control and invisible characters out; check the text encoding")  # fmt: skip


def _shown(text: str) -> str:
    """The beginning of a text in ASCII, safe to store and to print."""
    return f"{text[:80]!a}" + ("..." if len(text) > 80 else "")
