"""What a rule of a mapping finds in a message: a rule, compiled once, puts each record's values into a draft.

Times and values are read as tolerantly as a platform's (`schemas.nbiot.fields`, `schemas.nbiot.value`). A path is
looked for in the value, then in the record, then in the whole message.
"""

from collections.abc import Collection, Sequence
from typing import Any

from schemas.mapping_codes import Codes
from schemas.mapping_draft import Draft, Row
from schemas.mapping_rule import MappingError, Rule
from schemas.name import MAX_METRIC_CHARACTERS
from schemas.nbiot.broken import Broken
from schemas.nbiot.fields import MILLISECONDS_MAX, push_seconds
from schemas.nbiot.value import any_value, plain_number
from schemas.path import MISSING, Path, PathError, Text, first, single
from schemas.payload import Unreadable, shown
from schemas.plain import MILLISECONDS_FROM
from schemas.reading import Event
from schemas.rejection import Reason

_Scopes = tuple[Any, Any]
"""A record and the message it is in: where paths are looked for."""


class RuleReader:
    """A rule, compiled. Raises `MappingError`."""

    def __init__(self, rule: Rule, places: Collection[str]) -> None:
        """`places`: the names that are kept of a topic."""
        if not rule.values or not rule.code:
            raise MappingError(
                "code and values may be left out, but not empty" if rule.code else "code is empty"
            )
        self._rule = rule
        try:
            self.each, self._values = Path(rule.each), [Path(path) for path in rule.values]
            self._codes = Codes(rule, {*places, *self.each.kept})
            self._metric = Text(rule.metric)
            self._when = [(single(path), frozenset(texts)) for path, texts in rule.when.items()]
            self._value = single(rule.value)
            self._time, self._unit, self._identity = (
                [single(path) for path in paths] for paths in (rule.time, rule.unit, rule.identity)
            )
        except PathError as error:
            raise MappingError(str(error)) from error
        self.wanted = [".".join(filter(None, (rule.each, path))) for path in rule.values]
        [path, *others] = self._values
        keys_are_metrics = path.members_of and path.members_of == self._metric.whole
        self._members = path if keys_are_metrics and not others else None
        """The path to an object whose keys are the metrics, as in most mappings."""
        self._members_key = self._members.only_key if self._members else None
        self._time_key = self._time[0].only_key if self._time else None
        self._is_usual = rule.constant is None and not rule.unit and not (rule.value and rule.time)
        """Whether a number where it is looked for is a reading as it stands, of its record's time."""

    def fits(self, body: Any) -> bool:
        """Whether the rule is for such a message."""
        found = ((path.find(body), texts) for path, texts in self._when)
        return all(isinstance(text, str) and text in texts for text, texts in found)

    def read(self, scopes: _Scopes, kept: dict[str, str], place: int, draft: Draft) -> int:
        """Put a record's values, from `place` on, to its terminal's; answers the place after them."""
        found: Collection[tuple[str, Any]]
        if self._members_key and type(scopes[0]) is dict:
            members = scopes[0].get(self._members_key)
            found = members.items() if isinstance(members, dict) else ()
        else:
            found = self._found(kept, scopes)
        if not found:
            return self._refuse_empty(scopes, place, draft.broken)
        codes = self._codes
        if not codes.key or (code := codes.known.get(codes.key(kept))) is None:
            try:
                code = codes.find(kept, scopes)
            except Unreadable as fault:
                self._refuse(scopes, fault, range(place, place + len(found)), draft.broken)
                return place + len(found)
        said = scopes[0].get(self._time_key) if self._time_key and type(scopes[0]) is dict else None
        if type(said) is int and MILLISECONDS_FROM <= said < MILLISECONDS_MAX:  # nearly always
            time: float | Unreadable = said / 1000
        else:
            time = self._around(scopes) if self._time else 0.0
        rows = draft.rows.setdefault(code, [])
        usual = time if self._is_usual and type(time) is float else None
        for metric, sent in found:
            name = metric.removeprefix("/")  # /3303/0/5700 is 3303/0/5700
            if (
                usual is not None
                and (number := plain_number(name, self._value.find(sent) if self._rule.value else sent))
                is not None
            ):
                rows.append((name, usual, number, None, place))  # nearly always
            elif row := self._reading(metric, sent, place, time, scopes, code, draft):
                rows.append(row)
            place += 1
        if self._identity:
            draft.number(code, [first((path,), scopes) for path in self._identity])
        return place

    def _found(self, kept: dict[str, str], scopes: _Scopes) -> list[tuple[str, Any]]:
        """Metric and value, both as sent, of all that is found in a record."""
        if self._members:
            members = self._members.find(scopes[0])
            return [*members.items()] if isinstance(members, dict) else []
        found: list[tuple[str, Any]] = []
        for path in self._values:
            for value, names in path.walk(scopes[0], kept):
                metric = names.get(self._metric.whole) or self._metric.fill(names, (value, *scopes))
                found.append((metric or "", value))
        return found

    def _refuse_empty(self, scopes: _Scopes, place: int, broken: Broken) -> int:
        """Refuse a record without values, where it is one of several; answers the place after it."""
        if not self._rule.each:
            return place
        if broken.full:
            broken.count(place)
        else:
            fault = Unreadable(Reason.MALFORMED_PAYLOAD, f"no value at {self.wanted[0]!r}", "leave it out")
            self._refuse(scopes, fault, range(place, place + 1), broken)
        return place + 1

    def _refuse(self, scopes: _Scopes, fault: Unreadable, places: range, broken: Broken) -> None:
        """Refuse the values of a record that belongs to no terminal."""
        broken.timed = broken.timed or self._is_timed(scopes)
        for index in places:
            broken.add(fault, index)

    def finds_time(self, body: Any, names: dict[str, str]) -> bool:
        """Whether a message says a time, or what never repeats, anywhere that the rule looks for one."""
        records = self.each.walk(body, names)
        return any(self._is_timed((record, body)) for record, _ in [(body, names), *records]) or any(
            self._is_timed((value, body))
            for record, kept in records
            for path in self._values
            for value, _ in path.walk(record, kept)
        )

    def _is_timed(self, scopes: _Scopes) -> bool:
        """Whether a record, or its message, says a time, or what never repeats."""
        time = self._around(scopes)
        numbers = [first((path,), scopes) for path in self._identity]
        numbered = bool(numbers) and all(type(number) in {str, int} for number in numbers)
        return numbered or (not isinstance(time, Unreadable) and time > 0)

    def _reading(
        self,
        metric: str,
        sent: Any,
        index: int,
        around: float | Unreadable,
        scopes: _Scopes,
        code: str,
        draft: Draft,
    ) -> Row | None:
        """The reading that a value is; None: what it is instead, the draft has.

        `around` is the time for one without its own, `scopes` are its record and the message.
        """
        time = self._around((sent,)) or around if self._time and isinstance(sent, dict) else around
        if isinstance(time, Unreadable):
            draft.refuse(code, around, time.refusal(index, [metric, time.detail, sent]))
            return None
        if len(metric) > MAX_METRIC_CHARACTERS + 1:
            # it may be said once for many values, and stands in each one's identity
            detail = f"metric {shown(metric)} has {len(metric)} characters"
            nameless = Unreadable(Reason.INVALID_NAME, detail, "shorten it")
            draft.refuse(code, around, nameless.refusal(index, [detail, time, sent]))
            return None
        unit = first(self._unit, (sent, *scopes)) if self._unit else None
        value, name = self._bare(sent), metric.removeprefix("/")
        read: float | dict[str, Any] | None = plain_number(name, value)
        if read is None:
            try:
                read = any_value(code, name, value)
            except Unreadable as fault:
                draft.refuse(code, around, fault.refusal(index, [name, time, value]))
                return None
        if isinstance(read, float):
            return name, time, read, unit if isinstance(unit, str) else None, index
        part = draft.other(code, around)
        if read is not None:
            part.events.append(Event((code, name), time, read, index))
        return None

    def _around(self, scopes: Sequence[Any]) -> float | Unreadable:
        """The time that the first of these has, which a value without its own takes, or what is wrong with it."""
        try:
            for scope in scopes:
                for path in self._time:
                    found = path.find(scope)
                    if found is not MISSING and (time := push_seconds(found, path.text)):
                        return time
        except Unreadable as fault:
            return fault
        return 0.0

    def _bare(self, value: Any) -> Any:
        """The value itself: without the object around it, and as the number that it stands for."""
        if self._rule.constant is not None:
            return self._rule.constant
        if self._rule.value and (inner := self._value.find(value)) is not MISSING:
            value = inner
        return self._rule.numbers.get(value, value) if isinstance(value, str) else value
