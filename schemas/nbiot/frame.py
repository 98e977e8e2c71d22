"""Transparent bytes of a product as numbers, by a table of fields in the routes file: a hook without code.

Assumes a frame of fixed places, as most meters and detectors send. What is longer is not looked at; what is too
short is refused as a whole. Frames that need more (several kinds, BCD, checksums) need a `Hook` of their own.
"""

import struct
from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec

from schemas.nbiot.draft import Hook

_FLOATS = {("big", 4): ">f", ("little", 4): "<f", ("big", 8): ">d", ("little", 8): "<d"}


class FrameError(ValueError):
    """A table of fields that can't work; the text says what in it."""


class Field(msgspec.Struct, forbid_unknown_fields=True):
    """A number in a frame: its place and length in bytes, and what it measures."""

    offset: Annotated[int, msgspec.Meta(ge=0, le=65_535)]
    length: Annotated[int, msgspec.Meta(ge=1, le=8)]
    metric: Annotated[str, msgspec.Meta(min_length=1)]
    type: Literal["uint", "int", "float"] = "uint"
    order: Literal["big", "little"] = "big"
    unit: str | None = None
    """None: the metric catalogue's."""
    scale: float = 1.0
    """The value is the number times this: 0.1 where 215 is 21.5."""

    def read(self, data: bytes) -> float:
        """Its value in a frame that is long enough."""
        piece = data[self.offset : self.offset + self.length]
        if self.type == "float":
            return float(struct.unpack(_FLOATS[self.order, self.length], piece)[0]) * self.scale
        return int.from_bytes(piece, self.order, signed=self.type == "int") * self.scale


def hook(fields: Sequence[Field]) -> Hook:
    """What reads frames with these fields. Raises `FrameError`."""
    if not fields:
        raise FrameError("no field")
    if odd := next((f for f in fields if f.type == "float" and f.length not in {4, 8}), None):
        raise FrameError(f"{odd.metric}: a float has 4 or 8 bytes, not {odd.length}")
    needed = max(field.offset + field.length for field in fields)

    def read(data: bytes) -> list[tuple[str, str | None, float]]:
        if len(data) < needed:
            raise ValueError(f"{len(data)} bytes, {needed} are needed")
        return [(field.metric, field.unit, field.read(data)) for field in fields]

    return read
