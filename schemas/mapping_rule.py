"""A rule of a mapping as written: where a vendor's JSON keeps codes, times and values.

Its fields are the language, docs/routes.md explains it with examples. Paths are those of `schemas.path`.
"""

import msgspec


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
