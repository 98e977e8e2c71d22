"""Sparkplug values that are no numbers, as bodies of events: text, moments, bytes, DataSets, Templates.

A body is JSON-ready: `{"vs": text}`, `{"datetime_ms": Unix ms}`, `{"vd": base64url}` as in SenML (arrays
also with their `datatype`), `{"dataset": {columns, rows}}`, `{"template": {ref, version, metrics}}`.
"""

import base64
import math
from collections.abc import Iterator
from typing import Any

from schemas.payload import Unreadable
from schemas.rejection import Reason
from schemas.sparkplug import (
    BOOL,
    BOOLEAN,
    BYTES,
    DATASET,
    DATATYPE,
    DATETIME,
    DOUBLE,
    DOUBLE_OF,
    FLOAT,
    FLOAT_OF,
    INT,
    IS_NULL,
    LONG,
    NAME,
    STRING,
    TEMPLATE,
    Fields,
    fields,
    integer,
    text,
    value_key,
    varint,
)

NESTING_MAX = 8
"""Templates within templates; each level is copied once more."""
ARRAYS = range(22, 35)
_ELEMENT = {
    1 << 3: INT,
    2 << 3: LONG,
    3 << 3 | 5: FLOAT,
    4 << 3 | 1: DOUBLE,
    5 << 3: BOOL,
    6 << 3 | 2: STRING,
}
"""Keys of a DataSet's value, as the metric's that they stand for."""


def body(key: int, value: Any, datatype: int | None, depth: int = 0) -> dict[str, Any]:
    """A value that is no number, as the body of an event: JSON-ready. Raises `Unreadable`."""
    if key in (INT, LONG) and datatype == DATETIME:
        return {"datetime_ms": integer(value, datatype)}
    if key == STRING:
        return {"vs": text(value)}
    if key == BYTES:
        encoded = base64.urlsafe_b64encode(value).rstrip(b"=").decode()
        return {"vd": encoded} | ({"datatype": datatype} if datatype in ARRAYS else {})
    if key == DATASET:
        return {"dataset": _dataset(value)}
    if key == TEMPLATE and depth < NESTING_MAX:
        return {"template": _template(value, depth + 1)}
    what = "nested too deeply" if key == TEMPLATE else "an extension"
    raise Unreadable(Reason.UNSUPPORTED, f"a value that is {what}", "send a value of Sparkplug B 3.0")


def _dataset(data: bytes) -> dict[str, Any]:
    """Columns and rows of a DataSet; a missing element, NaN and Infinity are null."""
    columns: list[str] = []
    types: list[int] = []
    rows: list[list[dict[int, Any]]] = []
    for key, value in fields(data):
        if key == 2 << 3 | 2:
            columns.append(text(value))
        elif key == 3 << 3:
            types.append(value)
        elif key == 3 << 3 | 2:  # packed, as proto3 writers do
            types += _packed(value)
        elif key == 4 << 3 | 2:
            rows.append([dict(fields(e)) for k, e in fields(value) if k == 1 << 3 | 2])
    if any(len(row) > len(types) for row in rows):
        raise Unreadable(Reason.MALFORMED_PAYLOAD, "a DataSet with more elements in a row than types")
    return {
        "columns": columns,
        "rows": [[_element(*pair) for pair in zip(row, types, strict=False)] for row in rows],
    }


def _packed(data: bytes) -> Iterator[int]:
    at = 0
    while at < len(data):
        found, at = varint(data, at)
        yield found


def _element(found: Fields, datatype: int) -> Any:
    """An element of a row as JSON has it."""
    key = next((key for key in found if key in _ELEMENT), None)
    return None if key is None else _json(_ELEMENT[key], found[key], datatype, NESTING_MAX)


def _json(key: int, value: Any, datatype: int | None, depth: int) -> Any:
    if key in (FLOAT, DOUBLE):
        (found,) = DOUBLE_OF(value) if key == DOUBLE else FLOAT_OF(value)
        return found if math.isfinite(found) else None
    if key == BOOL or (key in (INT, LONG) and datatype == BOOLEAN):
        return bool(value)
    if key in (INT, LONG):
        return integer(value, datatype)
    return text(value) if key == STRING else body(key, value, datatype, depth)


def _template(data: bytes, depth: int) -> dict[str, Any]:
    """A Template's reference, version and metrics by name."""
    found: dict[str, Any] = {"metrics": {}}
    for key, value in fields(data):
        if key == 2 << 3 | 2:
            metric = dict(fields(value))
            which = None if metric.get(IS_NULL) else value_key(metric)
            said = None if which is None else _json(which, metric[which], metric.get(DATATYPE), depth)
            found["metrics"][text(metric.get(NAME, b""))] = said
        elif key in (1 << 3 | 2, 4 << 3 | 2):
            found["version" if key == 1 << 3 | 2 else "ref"] = text(value)
    return found
