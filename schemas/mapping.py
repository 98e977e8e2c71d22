"""Decoders that are data: a mapping in the routes file says where a vendor's JSON keeps codes, times and values.

A mapping is a list of rules, and every rule that fits a message is applied to it. The fields of `Rule` are the
language, docs/routes.md explains it with examples. Paths are those of `schemas.path`; times and values are read as
tolerantly as a platform's (`schemas.nbiot.common`). A terminal's values are a part, known by route, code, times and
values.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from schemas.message import Message
from schemas.name import MAX_CODE_CHARACTERS, MAX_METRIC_CHARACTERS
from schemas.nbiot.common import Broken, add_value, identify, imei_of, push_seconds, refused
from schemas.path import MISSING, Path, PathError, Text, first, single
from schemas.payload import Unreadable, load_json, shown
from schemas.reading import RELATIVE_BELOW, Decoder, Part
from schemas.rejection import Reason

_IMEI = re.compile(r"(?:(?i:urn:)?(?i:imei:))?([0-9]{15})")


class MappingError(ValueError):
    """A mapping that can't work; the text says what in it."""


class Rule(msgspec.Struct, forbid_unknown_fields=True):
    """A rule as written. Paths are looked for in the value, then in the record, then in the whole message."""

    code: str
    """The terminal's code, a text with holes: `{name}` is a level of the topic, a kept key, or a path."""
    imei: str = ""
    """A text with holes too; where it makes 15 digits, `urn:imei:` before them or not, they are the code."""
    when: dict[str, tuple[str, ...]] = {}
    """By path, the texts of which one must stand there for the rule to fit."""
    each: str = ""
    """Path to the records. Empty: the message is the record."""
    values: tuple[str, ...] = ("",)
    """Paths in a record to its values; empty: the record is the value."""
    metric: str = "{metric}"
    """The metric's name, a text with holes."""
    value: str = ""
    """Path to the value where an object stands around it; a value without one is taken as it is."""
    constant: float | None = None
    """What every value counts as, whatever it is."""
    numbers: dict[str, float] = {}
    """Texts that stand for numbers."""
    time: tuple[str, ...] = ()
    """Paths to the time. The first that is there counts; none: the arrival."""
    unit: tuple[str, ...] = ()
    """Paths to the unit."""
    identity: tuple[str, ...] = ()
    """Paths to what never repeats, such as a message's number: it tells a message without a time from others."""


def compile_mapping(rules: Sequence[Rule], route: str, places: Mapping[str, int]) -> Decoder:
    """The decoder of a mapping on a route; `places` are the named levels of its topics. Raises `MappingError`."""
    if not rules:
        raise MappingError("it has no rule")
    compiled = [_Rule(rule) for rule in rules]

    def decode(message: Message) -> list[Part]:
        levels = message.topic.split("/")
        names = {name: levels[level] for name, level in places.items()}
        try:
            body = load_json(message.payload or b"{}")  # the topic may say it all: /product/device/online
        except Unreadable as fault:
            return [refused(fault)]
        try:
            return _read(compiled, body, names, route)
        except Unreadable as fault:
            timed = any(rule.finds_time(body, names) for rule in compiled)
            return [refused(fault, RELATIVE_BELOW if timed else 0.0, [route, names, body])]

    return decode


def _read(rules: Sequence["_Rule"], body: Any, names: dict[str, str], route: str) -> list[Part]:
    """The parts of a message. Raises `Unreadable` when no rule fits or finds anything."""
    fitting = [rule for rule in rules if rule.fits(body)]
    if not fitting:
        raise Unreadable(Reason.UNSUPPORTED, "no rule of the mapping fits", "see `when` in the routes file")
    draft, place = _Draft(), 0
    for rule in fitting:
        for record, kept in rule.each.walk(body, names):
            place = rule.read(_Record(record, body, kept), place, draft)
    if not place:
        wanted = ", ".join(dict.fromkeys(repr(path) for rule in fitting for path in rule.wanted))
        raise Unreadable(Reason.MALFORMED_PAYLOAD, f"nothing where the mapping looks: {wanted}",
                         "compare the payload with the mapping in the routes file")  # fmt: skip
    return draft.finish(route)


class _Record(msgspec.Struct):
    """A record, the message it is in, and the names kept on the way to it."""

    value: Any
    message: Any
    kept: dict[str, str]


class _Draft:
    """The parts of a message while it is read: one a terminal, and what can't be given to any."""

    def __init__(self) -> None:
        self._parts: dict[str, Part] = {}
        self._times: dict[str, float] = {}
        self._numbers: dict[str, list[str | int]] = {}
        self.broken = Broken()

    def part(self, code: str, time: float | Unreadable) -> Part:
        """The part of a terminal; `time`: of its record."""
        if (part := self._parts.get(code)) is None:
            part = self._parts[code] = Part(indexes=[])
        if not isinstance(time, Unreadable) and time > self._times.get(code, 0.0):
            self._times[code] = time
        return part

    def number(self, code: str, numbers: list[Any]) -> None:
        """Note what never repeats, of one of the terminal's records."""
        if all(type(number) in {str, int} for number in numbers):
            self._numbers.setdefault(code, []).extend(numbers)

    def finish(self, route: str) -> list[Part]:
        """The parts with their identities."""
        for code, part in self._parts.items():
            numbers = self._numbers.get(code)
            identify(part, route, code, repr(numbers) if numbers else "", self._times.get(code, 0.0))
            if numbers:
                part.absolute = True
        good = list(self._parts.values())
        return [*good, *self.broken.parts(good)]


class _Rule:
    """A rule, compiled. Raises `MappingError`."""

    def __init__(self, rule: Rule) -> None:
        if not rule.values or not rule.code:
            raise MappingError(
                "code and values may be left out, but not empty" if rule.code else "code is empty"
            )
        self._rule = rule
        try:
            self.each, self._values = Path(rule.each), [Path(path) for path in rule.values]
            self._code, self._imei, self._metric = Text(rule.code), Text(rule.imei), Text(rule.metric)
            self._when = [(single(path), frozenset(texts)) for path, texts in rule.when.items()]
            self._value = single(rule.value)
            self._time, self._unit, self._identity = (
                [single(path) for path in paths] for paths in (rule.time, rule.unit, rule.identity)
            )
        except PathError as error:
            raise MappingError(str(error)) from error
        self.wanted = [".".join(filter(None, (rule.each, path))) for path in rule.values]

    def fits(self, body: Any) -> bool:
        """Whether the rule is for such a message."""
        found = ((path.find(body), texts) for path, texts in self._when)
        return all(isinstance(text, str) and text in texts for text, texts in found)

    def read(self, record: _Record, place: int, draft: _Draft) -> int:
        """Put a record's values, from `place` on, into its terminal's part; answers the place after them."""
        found = self._found(record)
        if not found and not self._rule.each:
            return place
        end = place + (len(found) or 1)
        if not found and draft.broken.full:
            draft.broken.count(place)
            return end
        try:
            code = self._terminal(record, found)
        except Unreadable as fault:
            self._refuse(record, fault, range(place, end), draft.broken)
            return end
        time = self._around(record) if self._time else 0.0
        part = draft.part(code, time)
        for index, (metric, value) in enumerate(found, place):
            self._add(part, code, metric, value, record, time, index)
        if self._identity:
            scopes = (record.value, record.message)
            draft.number(code, [first((path,), scopes) for path in self._identity])
        return end

    def _found(self, record: _Record) -> list[tuple[str, Any]]:
        """Metric and value, both as sent, of all that is found in a record."""
        found: list[tuple[str, Any]] = []
        for path in self._values:
            if path.members_of and path.members_of == self._metric.whole:  # most mappings: metrics are keys
                members = path.find(record.value)
                found += members.items() if isinstance(members, dict) else ()
                continue
            for value, names in path.walk(record.value, record.kept):
                scopes = (value, record.value, record.message)
                found.append((names.get(self._metric.whole) or self._metric.fill(names, scopes) or "", value))
        return found

    def _refuse(self, record: _Record, fault: Unreadable, places: range, broken: Broken) -> None:
        """Refuse the values of a record that belongs to no terminal."""
        broken.timed = broken.timed or self._is_timed(record)
        for index in places:
            broken.add(fault, index)

    def finds_time(self, body: Any, names: dict[str, str]) -> bool:
        """Whether a message says a time, or what never repeats, anywhere that the rule looks for one."""
        records = [_Record(value, body, kept) for value, kept in self.each.walk(body, names)]
        return any(map(self._is_timed, [_Record(body, body, names), *records])) or any(
            self._is_timed(_Record(value, body, kept))
            for record in records
            for path in self._values
            for value, kept in path.walk(record.value, record.kept)
        )

    def _is_timed(self, record: _Record) -> bool:
        """Whether a record, or its message, says a time, or what never repeats."""
        time, scopes = self._around(record), (record.value, record.message)
        numbers = [first((path,), scopes) for path in self._identity]
        numbered = bool(numbers) and all(type(number) in {str, int} for number in numbers)
        return numbered or (not isinstance(time, Unreadable) and time > 0)

    def _terminal(self, record: _Record, found: list[tuple[str, Any]]) -> str:
        if not found:
            raise Unreadable(Reason.MALFORMED_PAYLOAD, f"no value at {self.wanted[0]!r}", "leave it out")
        scopes = (record.value, record.message)
        if (
            self._rule.imei
            and (imei := self._imei.fill(record.kept, scopes))
            and (found_imei := _IMEI.fullmatch(imei))
            and (digits := imei_of(found_imei[1]))
        ):
            return f"imei:{digits}"
        if (code := self._code.fill(record.kept, scopes)) is None:
            detail = f"nothing of 1 to {MAX_CODE_CHARACTERS} characters fills the code {self._rule.code!r}"
            hint = "send what names the terminal, or correct the mapping"
            raise Unreadable(Reason.INVALID_NAME, detail, hint)
        return code

    def _add(
        self,
        part: Part,
        code: str,
        metric: str,
        value: Any,
        record: _Record,
        around: float | Unreadable,
        index: int,
    ) -> None:
        """Put one value into the part, or its refusal; `around` is the time for one without its own."""
        time = around
        if self._time and isinstance(value, dict):
            try:
                time = self._seconds((value,)) or around
            except Unreadable as fault:
                time = fault
        if isinstance(time, Unreadable):
            part.refusals.append(time.refusal(index, [metric, time.detail, value]))
            return
        if (
            len(metric) > MAX_METRIC_CHARACTERS + 1
        ):  # it may be said once for many values, and stands in each one's identity
            detail = f"metric {shown(metric)} has {len(metric)} characters"
            nameless = Unreadable(Reason.INVALID_NAME, detail, "shorten it")
            part.refusals.append(nameless.refusal(index, [detail, time, value]))
            return
        unit = first(self._unit, (value, record.value, record.message)) if self._unit else None
        if type(value) is not float or self._rule.constant is not None:
            value = self._bare(value)
        metric = metric.removeprefix("/")  # /3303/0/5700 is 3303/0/5700
        add_value(part, code, metric, value, time, index, unit if isinstance(unit, str) else None)

    def _around(self, record: _Record) -> float | Unreadable:
        """The time that the record or the message gives values without their own, or what is wrong with it."""
        try:
            return self._seconds((record.value, record.message))
        except Unreadable as fault:
            return fault

    def _bare(self, value: Any) -> Any:
        """The value itself: without the object around it, and as the number that it stands for."""
        if self._rule.constant is not None:
            return self._rule.constant
        if self._rule.value and (inner := self._value.find(value)) is not MISSING:
            value = inner
        return self._rule.numbers.get(value, value) if isinstance(value, str) else value

    def _seconds(self, scopes: tuple[Any, ...]) -> float:
        """The time, 0.0 where none is there. Raises `Unreadable`."""
        for scope in scopes:
            for path in self._time:
                if (found := path.find(scope)) is not MISSING and (time := push_seconds(found, path.text)):
                    return time
        return 0.0
