"""Recordings: read as they are, packed without loss, refused with file and line."""

import csv
import gzip
import math
from itertools import pairwise
from pathlib import Path

import pytest

from ingest.replay import (
    RecordingError,
    Series,
    hours_to_now,
    load_recording,
    load_series,
    packs,
    parse_series,
    too_old,
)
from schemas.message import Message
from schemas.telemetry import decode

METERS = Path(__file__).parent / "data" / "meters"
ELECTRICITY = Series(
    file=METERS / "il-electricity-cdd-hdd-hourly.csv.gz",
    terminal="imei:860000000000009",
    metric="electric_energy",
    unit="kWh",
    gateway="meters-1",
    division=370102,
)
GAS = Series(
    file=METERS / "il-gas-hdd-only-hourly.csv.gz",
    terminal="860000000000017",
    metric="gas_energy",
    unit="therm",
)
TEMPERATURE = Series(
    file=METERS / "il-tempF.csv.gz",
    terminal="88.118.1/T.1",
    metric="temperature",
    unit="degF",
    gateway="meters-2",
)


def _rows(series):
    with gzip.open(series.file, "rt") as lines:
        return [float(row[1]) for row in list(csv.reader(lines))[1:]]


def _decoded(messages):
    for message in messages:
        (part,) = decode(Message(message.topic, message.payload, 0.0, message.content_type))
        assert not part.refusals
        yield message, part


@pytest.mark.parametrize("series", [ELECTRICITY, GAS, TEMPERATURE], ids=lambda s: s.metric)
def test_every_value_leaves_exactly_as_recorded(series):
    """Decoded packs hold the file's numbers, bit by bit and in order, an hour apart, under one name and unit."""
    recording = load_recording(series)
    values, times, names, units = [], [], set(), set()
    for message, part in _decoded(packs([recording])):
        assert message.topic == f"ganzhi/v1/{series.division}/{series.gateway}/telemetry"
        assert message.readings == len(part.values) <= 50
        values += list(part.values)
        times += list(part.times)
        names |= set(part.names)
        units |= set(part.units)
    separator = "/" if "/" in series.terminal else ":"
    assert values == _rows(series)
    assert len(values) == 19_417
    assert (times[0], times[-1]) == (1_448_172_000, 1_518_069_600)  # 2015-11-22 and 2018-02-08, 00:00 -06:00
    assert {later - earlier for earlier, later in pairwise(times)} == {3600}
    assert (names, units) == ({f"{series.terminal}{separator}{series.metric}"}, {series.unit})


def test_several_series_go_out_in_the_order_of_time():
    """Packs of all series are merged by their first time."""
    recordings = [load_recording(series) for series in (ELECTRICITY, TEMPERATURE)]
    starts = [part.times[0] for _, part in _decoded(packs(recordings, per_pack=500))]
    assert starts == sorted(starts)
    assert len(starts) == 2 * 39


def test_shifted_to_now_the_newest_reading_is_of_the_last_hour():
    """The shift is whole hours, so that hourly values stay on the hour, and nothing lies in the future."""
    recording, now = load_recording(ELECTRICITY), 1_795_300_000.0
    shift = hours_to_now([recording], now)
    assert shift % 3600 == 0
    newest = max(time for _, part in _decoded(packs([recording], shift_seconds=shift)) for time in part.times)
    assert now - 3600 < newest <= now


def test_readings_that_a_service_would_refuse_by_age_are_counted():
    """Those older than the limit, none without a limit; hourly for 809 days, the last 90 of them are left."""
    recording = load_recording(ELECTRICITY)
    newest = max(recording.times)
    assert too_old([recording], newest - 90 * 86_400) == 19_417 - 90 * 24 - 1
    assert too_old([recording], -math.inf) == 0


def test_rows_without_a_value_are_counted_and_left_out(tmp_path):
    """Empty and not finite values are no readings."""
    file = tmp_path / "holes.csv"
    file.write_text(
        "start,value\n2020-01-01T00:00:00Z,1\n2020-01-01T01:00:00Z,\n2020-01-01T02:00:00Z,nan\n2020-01-01T03:00:00Z,0.1\n"
    )
    recording = load_recording(ELECTRICITY.model_copy(update={"file": file}))
    assert (list(recording.values), recording.empty) == ([1.0, 0.1], 2)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("start,value\n2020-01-01T00:00:00Z,1\nyesterday,2\n", "line 3 is 'yesterday,2'"),
        ("start,value\n2020-01-01T00:00:00,1\n", "line 2: .* has no UTC offset"),
        ("start,value\n2020-01-01T00:00:00Z,1,2\n", "line 2"),
        ("start,value\n2020-01-01T00:00:00Z,one\n", "line 2"),
        ("\xff", "can't decode"),
    ],
)
def test_an_unreadable_row_is_named_by_file_and_line(tmp_path, content, says):
    """The error says where a recording can't be read."""
    file = tmp_path / "bad.csv"
    file.write_bytes(content.encode("latin-1"))
    with pytest.raises(RecordingError, match=f"bad.csv: .*{says}"):
        load_recording(ELECTRICITY.model_copy(update={"file": file}))


def test_files_that_are_not_there_or_not_gzip_are_named(tmp_path):
    """A missing file, or one cut short, is named."""
    with pytest.raises(RecordingError, match="No such file"):
        load_recording(ELECTRICITY.model_copy(update={"file": tmp_path / "none.csv"}))
    cut = tmp_path / "cut.csv.gz"
    cut.write_bytes(ELECTRICITY.file.read_bytes()[:5000])
    with pytest.raises(RecordingError, match=r"cut\.csv\.gz: "):
        load_recording(ELECTRICITY.model_copy(update={"file": cut}))


def test_series_come_from_the_command_line_and_from_toml(tmp_path):
    """Both spell the same series; a TOML file's paths are relative to it."""
    given = parse_series(
        "file=a.csv,terminal=imei:860000000000009,metric=power,unit=W,gateway=g,division=370102"
    )
    table = tmp_path / "series.toml"
    table.write_text(
        '[[series]]\nfile = "a.csv"\nterminal = "imei:860000000000009"\nmetric = "power"\nunit = "W"\n'
        'gateway = "g"\ndivision = 370102\n'
    )
    assert load_series(table) == [given.model_copy(update={"file": tmp_path / "a.csv"})]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("file=a.csv,terminal=x", "metric"),
        ("file=a.csv,terminal=x,metric=power,colour=red", "colour"),
        ("a.csv,x,power", "name=value"),
        ("file=a.csv,terminal=x,metric=power,gateway=a/b", "gateway"),
    ],
)
def test_a_series_that_is_not_complete_is_refused_by_field(text, says):
    """What is missing, unknown or malformed is named."""
    with pytest.raises(RecordingError, match=says):
        parse_series(text)


def test_a_toml_file_that_is_no_list_of_series_is_refused(tmp_path):
    """Missing, not TOML, or without a needed field: the file is named."""
    for content in (None, "series = [", "series = 3", '[[series]]\nfile = "a"\n'):
        table = tmp_path / "series.toml"
        if content:
            table.write_text(content)
        with pytest.raises(RecordingError, match=r"series\.toml"):
            load_series(table)
