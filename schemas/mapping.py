"""Decoders that are data: a mapping in the routes file says where a vendor's JSON keeps codes, times and values.

A mapping is a list of rules (`schemas.mapping_rule`), and every rule that fits a message is applied to it. A terminal's
values are a part, known by route, code, times and values; terminals that say one number each share a part, and are
known as if each had its own.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from schemas.mapping_draft import Draft
from schemas.mapping_reader import RuleReader
from schemas.mapping_rule import MappingError, Rule
from schemas.message import Message
from schemas.nbiot.broken import refused
from schemas.payload import Unreadable, load_json
from schemas.reading import RELATIVE_BELOW, Decoder, Part
from schemas.rejection import Reason


def compile_mapping(rules: Sequence[Rule], route: str, places: Mapping[str, int]) -> Decoder:
    """The decoder of a mapping on a route; `places` are the named levels of its topics. Raises `MappingError`."""
    if not rules:
        raise MappingError("it has no rule")
    compiled = [RuleReader(rule, places) for rule in rules]

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


def _read(rules: Sequence[RuleReader], body: Any, names: dict[str, str], route: str) -> list[Part]:
    """The parts of a message. Raises `Unreadable` when no rule fits or finds anything."""
    fitting = [rule for rule in rules if rule.fits(body)]
    if not fitting:
        raise Unreadable(Reason.UNSUPPORTED, "no rule of the mapping fits", "see `when` in the routes file")
    draft, place = Draft(), 0
    for rule in fitting:
        for record, kept in rule.each.walk(body, names):
            place = rule.read((record, body), kept, place, draft)
    if not place:
        wanted = ", ".join(dict.fromkeys(repr(path) for rule in fitting for path in rule.wanted))
        raise Unreadable(Reason.MALFORMED_PAYLOAD, f"nothing where the mapping looks: {wanted}",
                         "compare the payload with the mapping in the routes file")  # fmt: skip
    return draft.finish(route)
