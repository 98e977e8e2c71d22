"""`ganzhi replay`: recorded series published again over MQTT, at their own times or shifted to now.

A recording is a CSV file (.gz or not) with a header and two columns, time (ISO 8601 with an offset)
and value. Times go out as absolute Unix seconds, values as the doubles that the file's digits mean.
"""

import csv
import gzip
import heapq
import math
import time
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Annotated, NamedTuple

import msgspec
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress

from ingest.fleet import SENML_JSON
from ingest.publish import Outgoing, Publisher, publish_all, stop_on_signals
from ingest.settings import Settings, SettingsError
from schemas.fault import faults
from schemas.topic import GATEWAY

HOUR_SECONDS = 3600
READINGS_PER_PACK = 50


class RecordingError(SettingsError):
    """A recording, or how it was named, cannot be read; the text says which, where and why. Exit code 2."""


class Series(BaseModel):
    """What a recording is: whose, of what, in which unit, and through which gateway it comes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    file: Path
    terminal: Annotated[str, Field(min_length=1)]
    metric: Annotated[str, Field(pattern=r"^[A-Za-z]")]
    unit: str = ""
    gateway: Annotated[str, Field(pattern=f"^{GATEWAY}$")] = "replay"
    division: Annotated[int, Field(ge=100_000, le=999_999)] = 370_000


@dataclass
class Recording:
    """A series with its readings as columns: Unix seconds, and values. `empty` rows had no value."""

    series: Series
    times: "array[float]" = field(default_factory=lambda: array("d"))
    values: "array[float]" = field(default_factory=lambda: array("d"))
    empty: int = 0


class Replayed(NamedTuple):
    """What a replay came to."""

    messages: int
    readings: int
    empty: int
    shift_seconds: int
    seconds: float

    def __str__(self) -> str:
        shifted = f", shifted by {self.shift_seconds / HOUR_SECONDS:,.0f} h" if self.shift_seconds else ""
        return (
            f"published and acknowledged {self.messages:,} messages with {self.readings:,} readings "
            f"in {self.seconds:.1f} s{shifted}; {self.empty:,} rows had no value"
        )


def parse_series(text: str) -> Series:
    """A series from `file=...,terminal=...,metric=...,unit=...,gateway=...,division=...`.

    Raises `RecordingError`.
    """
    try:
        return Series.model_validate(dict(pair.strip().split("=", 1) for pair in text.split(",")))
    except ValidationError as error:
        raise RecordingError(f"--series {text}: {'; '.join(map(str, faults(error)))}") from None
    except ValueError:
        raise RecordingError(f"--series {text}: every part must be name=value") from None


def load_series(path: Path) -> list[Series]:
    """The `[[series]]` tables of a TOML file; their `file`s are relative to it. Raises `RecordingError`."""
    try:
        tables = msgspec.toml.decode(path.read_bytes(), type=dict[str, list[dict[str, str | int]]])
        series = TypeAdapter(list[Series]).validate_python(tables.get("series", []))
    except OSError as error:
        raise RecordingError(f"{path}: {error.strerror}") from None
    except ValidationError as error:
        raise RecordingError(f"{path}: {'; '.join(map(str, faults(error)))}") from None
    except msgspec.DecodeError as error:
        raise RecordingError(f"{path}: not a list of [[series]] tables: {error}") from None
    return [one.model_copy(update={"file": path.parent / one.file}) for one in series]


def load_recording(series: Series) -> Recording:
    """Read a whole recording (16 bytes a row). Raises `RecordingError` that names file and line."""
    recording = Recording(series)
    opened = gzip.open if series.file.suffix == ".gz" else open
    try:
        with opened(series.file, "rt", encoding="utf-8", newline="") as lines:
            rows = csv.reader(lines)
            next(rows, None)
            for row in rows:
                _append(recording, row, rows.line_num)
    except OSError as error:
        raise RecordingError(f"{series.file}: {error.strerror or error}") from None
    except (ValueError, EOFError) as error:
        raise RecordingError(f"{series.file}: {error}") from None
    return recording


def hours_to_now(recordings: Sequence[Recording], now: float) -> int:
    """Seconds that bring the newest reading into the hour before `now`; whole hours, one for all series."""
    newest = max((max(r.times) for r in recordings if r.times), default=now)
    return math.floor((now - newest) / HOUR_SECONDS) * HOUR_SECONDS


def too_old(recordings: Sequence[Recording], oldest: float) -> int:
    """How many readings were observed before `oldest`, Unix seconds."""
    return sum(at < oldest for recording in recordings for at in recording.times)


def packs(
    recordings: Sequence[Recording], *, shift_seconds: int = 0, per_pack: int = READINGS_PER_PACK
) -> Iterator[Outgoing]:
    """The recordings as SenML packs of one series each, all series together in the order of time."""
    merged = heapq.merge(*(_packs(r, shift_seconds, per_pack) for r in recordings), key=lambda pack: pack[0])
    return (message for _, message in merged)


def replay(
    settings: Settings,
    series: Sequence[Series],
    *,
    pack: int = READINGS_PER_PACK,
    shift_to_now: bool = False,
    messages_per_second: float = 0,
    console: Console | None = None,
) -> Replayed:
    """Publish the series to the broker of `settings`; returns when the broker has acknowledged everything.

    Raises `RecordingError` before anything connects, then `BrokerOutOfReachError`.
    """
    console = console or Console()
    recordings = [load_recording(one) for one in series]
    shift = hours_to_now(recordings, time.time()) if shift_to_now else 0
    if refused := too_old(recordings, time.time() - settings.max_age_seconds - shift):
        advice = _advice(refused, settings.max_age_days, shifted=shift_to_now)
        console.print(advice, style="yellow", soft_wrap=True)
    columns = (*Progress.get_default_columns(), MofNCompleteColumn())
    bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
    with stop_on_signals() as stop, Publisher(settings, name="replay") as publisher, bar:
        started, readings = time.monotonic(), 0
        task = bar.add_task("readings", total=sum(len(recording.times) for recording in recordings))

        def count(message: Outgoing) -> None:
            nonlocal readings
            readings += message.readings
            bar.update(task, completed=readings)

        messages = packs(recordings, shift_seconds=shift, per_pack=pack)
        publish_all(publisher, messages, stop=stop, per_second=messages_per_second, progress=count)
    empty = sum(recording.empty for recording in recordings)
    result = Replayed(publisher.published, readings, empty, shift, time.monotonic() - started)
    for line in (str(result), *publisher.complaints()):
        console.print(line, highlight=False, soft_wrap=True)
    return result


def _advice(refused: int, max_age_days: float, *, shifted: bool) -> str:
    remedy = (
        "they end now and reach back further: set"
        if shifted
        else "--shift-to-now brings them to today; or set"
    )
    return (
        f"{refused:,} readings are older than {max_age_days:g} days, and a service with "
        f"GANZHI_MAX_AGE_DAYS={max_age_days:g} refuses them as time_too_old; {remedy} GANZHI_MAX_AGE_DAYS=0 "
        "where the service runs"
    )


def _append(recording: Recording, row: Sequence[str], line: int) -> None:
    try:
        at, number = row
        moment = datetime.fromisoformat(at)
        value = float(number) if number.strip() else math.nan
    except ValueError:
        raise ValueError(f"line {line} is {','.join(row)!r}, not time,value with an ISO 8601 time") from None
    if moment.tzinfo is None:
        raise ValueError(f"line {line}: {at} has no UTC offset, which makes it ambiguous")
    if math.isfinite(value):
        recording.times.append(moment.timestamp())
        recording.values.append(value)
    else:
        recording.empty += 1


def _packs(recording: Recording, shift_seconds: int, per_pack: int) -> Iterator[tuple[float, Outgoing]]:
    series = recording.series
    topic = f"ganzhi/v1/{series.division}/{series.gateway}/telemetry"
    base = {"bn": f"{series.terminal}{'/' if '/' in series.terminal else ':'}"}
    base |= {"bu": series.unit} if series.unit else {}
    for start in range(0, len(recording.times), per_pack):
        end = start + per_pack
        records = [
            {"n": series.metric, "t": _whole(at + shift_seconds), "v": value}
            for at, value in zip(recording.times[start:end], recording.values[start:end], strict=True)
        ]
        records[0] = base | records[0]
        yield recording.times[start], Outgoing(topic, msgspec.json.encode(records), SENML_JSON, len(records))


def _whole(seconds: float) -> float:
    """Whole seconds without `.0`: a third shorter on the wire."""
    return int(seconds) if seconds.is_integer() else seconds
