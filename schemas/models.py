"""The payloads we publish, as pydantic models: SenML, the plain form, presence, gateway status.

The JSON Schemas in `schemas/json` are exported from here. The decoders of telemetry are written by
hand, for rate and for a reason per record; tests hold them to these models. The models know one
message: what the registry or the clock must say (is the name well formed, is the time in the
future) is checked after decoding.
"""

import json
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    RootModel,
    StrictBool,
    StrictInt,
    StrictStr,
    TypeAdapter,
    model_validator,
)

from schemas.catalogue import is_identity
from schemas.payload import storable
from schemas.plain import is_number_text, seconds
from schemas.senml import BASES, VALUES, VERSION, is_base64url


def _storable(text: str) -> str:
    if not storable(text):
        raise ValueError("holds U+0000 or a lone surrogate")
    return text


def _base64url(text: str) -> str:
    if not is_base64url(text):
        raise ValueError("is not base64url without padding")
    return text


def _no_number_texts(values: dict[str, Any]) -> dict[str, Any]:
    for metric, value in values.items():
        if isinstance(value, str) and is_number_text(value) and not is_identity(metric):
            raise ValueError(f"{metric} is a number as text; send it without quotes")
    return values


def _known_time(time: float | str) -> float | str:
    seconds(time)
    return time


def _as_text(code: str | int) -> str:
    return str(code)


Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Text = Annotated[StrictStr, AfterValidator(_storable)]
Base64Url = Annotated[StrictStr, Field(pattern=r"^[A-Za-z0-9_-]*$"), AfterValidator(_base64url)]
Code = Annotated[Annotated[StrictStr, Field(min_length=1)] | StrictInt, AfterValidator(_as_text)]
"""A terminal code; a whole number (an IMEI) counts as its digits."""
PlainTime = Annotated[Number | StrictStr, AfterValidator(_known_time)]
TIME = "Unix seconds, milliseconds from 1e11, or ISO 8601 with its zone; missing: the arrival"
Metric = Annotated[StrictStr, Field(min_length=1)]
PlainValue = StrictBool | Number | Text
PlainValues = Annotated[
    dict[Annotated[StrictStr, Field(min_length=1)], PlainValue],
    Field(min_length=1),
    AfterValidator(_no_number_texts),
]


class SenmlRecord(BaseModel):
    """One record of a SenML pack (RFC 8428, table 1). null counts as absent, unknown labels are ignored."""

    model_config = ConfigDict(extra="allow")

    bver: Annotated[Number, Field(le=VERSION, multiple_of=1)] | None = None
    bn: StrictStr | None = None
    bt: Number | None = None
    bu: StrictStr | None = None
    bv: Number | None = None
    bs: Number | None = None
    n: StrictStr | None = None
    u: StrictStr | None = None
    v: Number | None = None
    vs: Text | None = None
    vb: StrictBool | None = None
    vd: Base64Url | None = None
    s: Number | None = None
    t: Annotated[Number, Field(description="s; below 2**28 relative to the arrival")] | None = None
    ut: Annotated[Number, Field(description="s")] | None = None

    @model_validator(mode="after")
    def _one_value(self) -> Self:
        said = {label for label in type(self).model_fields if getattr(self, label) is not None}
        values = said & set(VALUES)
        if len(values) > 1:
            raise ValueError("more than one of v, vs, vb, vd")
        if not values and "s" not in said and (not said or said - BASES - {"bver"}):
            raise ValueError("no value")
        return self

    @model_validator(mode="after")
    def _all_understood(self) -> Self:
        extra = self.model_extra or {}
        if unknown := [label for label in extra if label.endswith("_") and extra[label] is not None]:
            raise ValueError(f"must be understood and are not: {', '.join(unknown)}")
        return self


class SenmlPack(RootModel[Annotated[list[SenmlRecord], Field(min_length=1)]]):
    """A SenML pack (RFC 8428): `application/senml+json`; in CBOR the same with integer labels."""


class PlainReading(BaseModel):
    """The plain form: what one terminal says at one time."""

    model_config = ConfigDict(extra="ignore")

    id: Code
    t: PlainTime | None = Field(default=None, description=TIME)
    values: PlainValues = Field(
        description="metric to value: numbers and booleans are readings, texts are events"
    )


class PlainReadings(RootModel[PlainReading | Annotated[list[PlainReading], Field(min_length=1)]]):
    """A plain message: one object or a list of them."""


class Presence(BaseModel):
    """Who is connected, from a platform that sends no readings of them; one list may be missing."""

    model_config = ConfigDict(extra="ignore")

    at: PlainTime | None = Field(default=None, description=TIME)
    online: list[Code] = []
    offline: list[Code] = []

    @model_validator(mode="after")
    def _some_list(self) -> Self:
        if not self.model_fields_set & {"online", "offline"}:
            raise ValueError("neither online nor offline")
        return self


class GatewayStatus(BaseModel):
    """A gateway's own state, retained, and its Will (which can't know `at`)."""

    model_config = ConfigDict(extra="ignore")

    online: StrictBool
    at: AwareDatetime | None = Field(default=None, description="missing: the arrival")
    firmware: Annotated[Text, Field(max_length=200)] | None = None


PUBLISHED: dict[str, type[BaseModel]] = {
    "senml": SenmlPack,
    "plain": PlainReadings,
    "presence": Presence,
    "status": GatewayStatus,
}
"""File name in `schemas/json`, without its suffix, to model."""


def schema_text(model: type[BaseModel]) -> str:
    """The JSON Schema of what `model` accepts, as it is published."""
    schema = TypeAdapter(model).json_schema(mode="validation")
    draft = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    return json.dumps(draft | schema, indent=2, ensure_ascii=False) + "\n"


def export(folder: Path) -> None:
    """Write the published JSON Schemas into `folder`."""
    for name, model in PUBLISHED.items():
        (folder / f"{name}.json").write_text(schema_text(model))
