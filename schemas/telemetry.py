"""Telemetry of our own topics: SenML in JSON or CBOR, or the plain form.

The content type says which; without one, or with one that is not known, the bytes do. JSON of
either kind may come as `application/json`.
"""

from collections.abc import Callable

from schemas import plain, senml, senml_cbor
from schemas.message import Message
from schemas.payload import Unreadable, load_json
from schemas.reading import Part

CBOR_FIRST_BYTES = range(0x80, 0xDC)
"""Arrays, maps and tags (RFC 8949, appendix B); in UTF-8 no text begins with 0x80 to 0xC1, and
JSON begins with ASCII."""


def decode(message: Message) -> list[Part]:
    """One part; of a message that can't be read, one refusal without an index."""
    read = _READERS.get(message.content_type) or _reader(message.content_type)
    try:
        return [read(message.payload)]
    except Unreadable as fault:
        return [Part(refusals=[fault.refusal(None)], absolute=False)]


def _read_senml_json(payload: bytes) -> Part:
    return senml.fast(payload) or senml.read(load_json(payload))


def _read_senml_cbor(payload: bytes) -> Part:
    return senml_cbor.fast(payload) or senml.read(senml_cbor.load_cbor(payload))


def _read_json(payload: bytes) -> Part:
    if payload.startswith(b"[") and (part := senml.fast(payload)):
        return part
    value = load_json(payload)
    return plain.read(value) if plain.is_plain(value) else senml.read(value)


def _read_any(payload: bytes) -> Part:
    is_cbor = payload and payload[0] in CBOR_FIRST_BYTES
    return _read_senml_cbor(payload) if is_cbor else _read_json(payload)


_READERS: dict[str | None, Callable[[bytes], Part]] = {
    None: _read_any,
    "application/senml+json": _read_senml_json,
    "application/senml+cbor": _read_senml_cbor,
    "application/json": _read_json,
}


def _reader(content_type: str | None) -> Callable[[bytes], Part]:
    """The reader of a content type that is written in another way: parameters, capitals, unknown."""
    media_type = (content_type or "").partition(";")[0].strip().lower()
    return _READERS.get(media_type, _read_any)
