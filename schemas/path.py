"""A small path language: where in decoded JSON something is, and texts with holes that paths fill.

`params.items[0].value` goes through objects and arrays; `[*]` is every element of an array; `{name}` is every member
of an object, and keeps its key under that name; a key with other characters stands in quotes: `data.'a.b'`. The empty
path is the value itself. Paths and texts are compiled once. What a path does not find is not there: it never fails on
input.
"""

import re
from collections.abc import Mapping, Sequence
from itertools import takewhile
from typing import Any, NamedTuple

from schemas.name import MAX_CODE_CHARACTERS

_STEP = re.compile(
    r"""\[(?P<all>\*)\] | \[(?P<index>[0-9]{1,6})\]
      | (?:^|\.)(?: \{(?P<capture>[a-z][a-z0-9_]*)\} | '(?P<quoted>[^']+)' | (?P<key>[^.\[\]{}'\s]+) )""",
    re.VERBOSE,
)
_HOLE = re.compile(r"\{([^{}]+)\}")
MISSING: Any = object()
"""What `Path.find` gives where nothing is; None is JSON's null."""


class PathError(ValueError):
    """A path that can't be read; the text says where."""


class _All(NamedTuple):
    """Every element of an array."""


class _Capture(NamedTuple):
    """Every member of an object, whose key goes under `name`."""

    name: str


_Step = str | int | _All | _Capture
Found = tuple[Any, dict[str, str]]
"""A value and the keys that were kept on the way to it."""


class Path:
    """A compiled path."""

    def __init__(self, text: str) -> None:
        """Raises `PathError`."""
        self.text = text
        steps: list[_Step] = []
        at = 0
        while at < len(text):
            step = _STEP.match(text, at) if at or text[0] != "." else None
            if not step:
                raise PathError(f"path {text!r} can't be read at character {at}: {text[at:]!r}")
            steps.append(_step(step))
            at = step.end()
        self._straight = list(takewhile(lambda step: isinstance(step, str | int), steps))
        """Keys and indexes before the first `[*]` or `{name}`."""
        self._beyond = steps[len(self._straight) :]
        only = steps[0] if len(self._straight) == 1 else None
        self.only_key = only if isinstance(only, str) else None
        """The one key of the path, or of what stands before its `[*]` or `{name}`."""
        last = self._beyond[0] if len(self._beyond) == 1 else None
        self.kept = [step.name for step in steps if isinstance(step, _Capture)]
        """The names under which keys are kept on the way."""
        self.members_of = last.name if isinstance(last, _Capture) else ""
        """The name in a path such as `params.{name}`, straight to an object and to each of its members."""

    @property
    def single(self) -> bool:
        """Whether the path leads to one value at most: no `[*]` and no `{name}`."""
        return not self._beyond

    def find(self, value: Any) -> Any:
        """The value that a `single` path leads to, or another one before its `[*]` or `{name}`; else `MISSING`."""
        if self.only_key is not None:  # most paths
            return value.get(self.only_key, MISSING) if isinstance(value, dict) else MISSING
        for step in self._straight:
            value = _inner(value, step)
        return value

    def walk(self, value: Any, kept: dict[str, str]) -> list[Found]:
        """Every value that the path leads to, in order, with `kept` and the keys kept on the way."""
        value = self.find(value)
        if value is MISSING:
            return []
        found = [(value, kept)]
        for step in self._beyond:
            if isinstance(step, _Capture):
                name = step.name
                found = [
                    (inner, {**k, name: key})
                    for v, k in found
                    if isinstance(v, dict)
                    for key, inner in v.items()
                ]
            elif isinstance(step, _All):
                found = [(inner, k) for v, k in found if isinstance(v, list) for inner in v]
            else:
                found = [(inner, k) for v, k in found if (inner := _inner(v, step)) is not MISSING]
        return found


def _inner(value: Any, step: Any) -> Any:
    """What lies at one key or index, else `MISSING`."""
    if isinstance(step, str):
        return value.get(step, MISSING) if isinstance(value, dict) else MISSING
    return value[step] if isinstance(value, list) and step < len(value) else MISSING


def _step(found: re.Match[str]) -> _Step:
    if found["all"]:
        return _All()
    if found["index"]:
        return int(found["index"])
    return _Capture(found["capture"]) if found["capture"] else found["quoted"] or found["key"]


class Text:
    """A text with holes, `{name}` or `{path}`."""

    def __init__(self, text: str) -> None:
        """Raises `PathError`."""
        self.whole = text[1:-1] if _HOLE.fullmatch(text) else ""
        """The hole that is the whole text, if one is."""
        pieces = _HOLE.split(text)
        self._holes = [
            (before, hole, single(hole)) for before, hole in zip(pieces[::2], pieces[1::2], strict=False)
        ]
        self._end = pieces[-1]
        self.holes = pieces[1::2]

    def fill(self, kept: Mapping[str, str], scopes: Sequence[Any]) -> str | None:
        """The text with its holes filled; None where one of them has nothing to fill it, or more than a code has.

        A key of a megabyte around an array of a million would be copied a million times.
        """
        filled = ""
        for before, hole, path in self._holes:
            found: Any = kept.get(hole)
            if found is None:
                for scope in scopes:
                    if (found := path.find(scope)) is not MISSING:
                        break
                if type(found) is int:
                    found = str(found)
                if not isinstance(found, str):
                    return None
            if not 0 < len(found) <= MAX_CODE_CHARACTERS:
                return None
            filled += before + found
        return filled + self._end


def first(paths: Sequence[Path], scopes: Sequence[Any]) -> Any:
    """What the first of these paths leads to in the first scope that has it, else `MISSING`."""
    for scope in scopes:
        for path in paths:
            if (found := path.find(scope)) is not MISSING:
                return found
    return MISSING


def single(text: str) -> Path:
    """A path to one value at most. Raises `PathError`."""
    path = Path(text)
    if not path.single:
        raise PathError(f"path {text!r} must lead to one value: no [*] and no {{name}}")
    return path
