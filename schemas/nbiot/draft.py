"""The part of one terminal while its values and events are put into it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from schemas.nbiot.value import any_value, event_body, plain_number
from schemas.payload import Unreadable
from schemas.reading import Event, Name, Part
from schemas.rejection import Reason

Hook = Callable[[bytes], Sequence[tuple[str, str | None, float]]]
"""Reads the transparent bytes of one product: metric, unit (None: the catalogue's) and value of each reading."""


class Draft:
    """The part of one terminal while it is filled, and the place of its next value in the message."""

    def __init__(self, code: str, aliases: dict[str, str], time: float, first: int = 0) -> None:
        """`time`: of the push, for values without their own; 0.0 where it has none."""
        self.part = Part(indexes=[], aliases=aliases)
        self.index = first
        self._code, self._time = code, time

    def put(self, name: str, value: Any, time: float = 0.0, unit: str | None = None) -> None:
        """Take one value."""
        add_value(self.part, self._code, name, value, time or self._time, self.index, unit)
        self.index += 1

    def put_all(self, values: Mapping[str, Any]) -> None:
        """Take values without times of their own, where it has taken nothing yet."""
        self.part = part_of_values(self._code, values, self._time, self.index, self.part.aliases)
        self.index += len(values)

    def event(self, name: str, body: Mapping[str, Any], time: float = 0.0, *, heard: bool = True) -> None:
        """Take one event; `heard` as in `Event`."""
        add_event(self.part, self._code, name, body, time or self._time, self.index, heard=heard)
        self.index += 1

    def refuse(self, fault: Unreadable, content: Any) -> None:
        """Refuse one value; `content` is what was sent."""
        self.part.refusals.append(fault.refusal(self.index, content))
        self.index += 1

    def transparent(self, name: str, data: bytes, hook: Hook | None) -> None:
        """Take bytes that only the product's hook can read; without one they are an event."""
        if hook is None:
            self.event(name, {"hex": data.hex()})
            return
        try:
            for metric, unit, value in hook(data):
                self.put(metric, value, unit=unit)
        except Exception as error:  # noqa: BLE001 - a hook's fault costs its bytes, which the refusal keeps
            detail = f"{name}: the product's hook can't read {len(data)} bytes: {type(error).__name__}"
            hint = "compare the device's protocol with the hook, and replay the rejection"
            self.refuse(Unreadable(Reason.MALFORMED_PAYLOAD, detail, hint), [name, data.hex()])


def add_value(
    part: Part, code: str, name: str, value: Any, time: float, index: int, unit: str | None = None
) -> None:
    """Put one value of a terminal into `part`, whose `indexes` are a list.

    A reading, an event, a refusal, or nothing where the field is unused.
    """
    read: float | dict[str, Any] | None = plain_number(name, value)
    if read is None:
        try:
            read = any_value(code, name, value)
        except Unreadable as fault:
            part.refusals.append(fault.refusal(index, [name, time, value]))
            return
    if isinstance(read, float):
        assert isinstance(part.indexes, list)
        part.indexes.append(index)
        part.names.append((code, name))
        part.units.append(unit)
        part.values.append(read)
        part.times.append(time)
    elif read is not None:
        part.events.append(Event((code, name), time, read, index))


def part_of_values(
    code: str, values: Mapping[str, Any], time: float, first: int, aliases: dict[str, str]
) -> Part:
    """The part of a terminal's values of one time, without its identity; `first`: the place of the first of them."""
    numbers = [n for n in map(plain_number, values, values.values()) if n is not None]
    count = len(values)
    if len(numbers) == count:  # nearly always
        names: list[Name] = [(code, name) for name in values]
        indexes = range(first, first + count)
        return Part(names, [None] * count, numbers, [time] * count, indexes, aliases=aliases)
    part = Part(indexes=[], aliases=aliases)
    for index, (name, value) in enumerate(values.items(), first):
        add_value(part, code, name, value, time, index)
    return part


def add_event(
    part: Part, code: str, name: str, body: Mapping[str, Any], time: float, index: int, *, heard: bool = True
) -> None:
    """Put an event of a terminal with this body into `part`; not `heard`: the platform's word, not the terminal's."""
    try:
        part.events.append(Event((code, name), time, event_body(dict(body), name), index, heard))
    except Unreadable as fault:
        part.refusals.append(fault.refusal(index, [name, time, body]).at(index, event=True))
