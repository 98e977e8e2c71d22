"""What gateways are told of refusals, on their own topic `ganzhi/v1/{division}/{gateway}/rejected`. Pure.

Told after the commit, at QoS 0: it is a help for whoever sets a gateway up, and the row in `rejection` is what counts.
A gateway is told once a second and ten times in a burst; how often it was not is said with the next. Assumes one
thread; times are arguments.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import msgspec

from devices.division import PROVINCE
from ingest.batch import Batch, element_count, refused_readings
from schemas.message import Message
from schemas.rejection import Refusal
from schemas.routes import Place

BURST = 10
PER_SECOND = 1.0
GATEWAYS_MAX = 100_000
"""Gateways remembered; a province has tens of thousands."""
DETAILS_MAX = 100
"""Refusals told of one message, 20 kB; `rejected` counts all."""
PREFIX = ("ganzhi", "v1")


class Feedback:
    """Topics and payloads for the refusals of committed batches. `division_of` says where a place is, if known."""

    def __init__(self, division_of: Callable[[Place], int | None]) -> None:
        self._division_of = division_of
        self._left: dict[str, tuple[float, float]] = {}
        """By gateway: how often it may be told, and as of when."""
        self._suppressed: dict[str, int] = {}

    def __call__(
        self, batch: Batch, refusals: dict[int, list[Refusal]], now: float
    ) -> list[tuple[str, bytes]]:
        """What to publish; `refusals` are those of the batch, by number of the message, `now` Unix seconds."""
        told = []
        numbers_of: dict[str, list[int]] = {}
        for number in refusals:
            if gateway := batch.places[number].gateway:
                numbers_of.setdefault(gateway, []).append(number)
        for gateway, numbers in numbers_of.items():
            count = self._take(gateway, len(numbers), now)
            for number in numbers[:count]:
                said = _payload(batch, number, refusals[number], self._suppressed.pop(gateway, 0))
                told.append((self._topic(batch.messages[number], batch.places[number]), said))
            if suppressed := len(numbers) - count:
                self._suppressed[gateway] = self._suppressed.get(gateway, 0) + suppressed
        return told

    def _take(self, gateway: str, wanted: int, now: float) -> int:
        """How many of so many a gateway may be told."""
        if len(self._left) >= GATEWAYS_MAX:
            self._left.clear()
            self._suppressed.clear()
        left, since = self._left.get(gateway, (BURST, now))
        left = min(BURST, left + PER_SECOND * max(0.0, now - since))
        count = min(wanted, int(left))
        self._left[gateway] = left - count, now
        return count

    def _topic(self, message: Message, place: Place) -> str:
        """Beside the topic that it came on, where that is one of ours: also under a division that is refused."""
        levels = message.topic.split("/")
        ours = tuple(levels[:2]) == PREFIX and len(levels) == 5 and levels[3] == place.gateway
        division = levels[2] if ours else self._division_of(place) or PROVINCE
        return f"ganzhi/v1/{division}/{place.gateway}/rejected"


def _payload(batch: Batch, number: int, refusals: Sequence[Refusal], suppressed: int) -> bytes:
    message = batch.messages[number]
    at = datetime.fromtimestamp(message.received_at, UTC).isoformat(timespec="milliseconds")
    said: dict[str, Any] = {
        "at": at.replace("+00:00", "Z"),
        "topic": message.topic,
        "digest": sha256(message.payload).hexdigest(),
        "rejected": refused_readings(refusals),
        "total": element_count(batch.parts_of(number)),
        "detail": [_detail(refusal) for refusal in refusals[:DETAILS_MAX]],
    }  # fmt: skip
    if suppressed:
        said["suppressed"] = suppressed
    return msgspec.json.encode(said)


def _detail(refusal: Refusal) -> dict[str, Any]:
    said = {
        "index": refusal.index, "reason": refusal.reason, "detail": refusal.detail, "hint": refusal.hint,
    }  # fmt: skip
    return said | {"count": refusal.count} if refusal.count > 1 else said
