"""What a gateway says of itself on its `status` topic, retained, and by its Will. Pure."""

import re
from typing import NamedTuple

from pydantic import ValidationError

from schemas.fault import faults
from schemas.models import GatewayStatus
from schemas.payload import shown
from schemas.topic import GATEWAY

FILTER = "ganzhi/v1/+/+/status"
_TOPIC = re.compile(rf"ganzhi/v1/([0-9]{{6}})/({GATEWAY})/status")


class Status(NamedTuple):
    """A gateway's word about itself. `division` is the topic's, whether it exists or not."""

    gateway: str
    division: int
    online: bool
    firmware: str | None


class BadStatusError(ValueError):
    """A message on the status topic that is none; the text says why."""


def read(topic: str, payload: bytes) -> Status:
    """The status in a message. Its `at` is left out: a Will was written long before it is sent.

    Raises `BadStatusError`.
    """
    place = _TOPIC.fullmatch(topic)
    if not place:
        raise BadStatusError(f"{shown(topic)} names no gateway: ganzhi/v1/DIVISION/GATEWAY/status does")
    try:
        said = GatewayStatus.model_validate_json(payload)
    except ValidationError as error:
        where, what = faults(error)[0]
        raise BadStatusError(f'{where or "payload"}: {what}; send {{"online": true}}') from None
    return Status(place[2], int(place[1]), said.online, said.firmware)
