"""Who is there, as a batch says it: the rules by table and by brute force, and the row that workers commit."""

import json
import time
from typing import NamedTuple

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pyroaring import BitMap

from devices.registry import Registry
from devices.store import Directory
from ingest.batch import Batch
from ingest.connection import connect
from ingest.decode import Decode
from ingest.explain import Imagined
from ingest.heard import presence
from ingest.resolve import Resolver
from ingest.seal import seal
from ingest.settings import OnUnknown, Settings
from ingest.write import Writer
from schemas.message import Message
from schemas.reading import Event, Part
from schemas.routes import Place, Routes

NOW = 1_795_000_000.25
DAY = 86_400


class Word(NamedTuple):
    """What a part says of a terminal: `online` or another metric."""

    terminal: str
    metric: str = "temperature"
    value: float = 20.0
    age: float = 60
    unit: str | None = None
    event: bool = False
    own: bool = True
    """Of an event: the terminal's own word, not its platform's."""


def part_of(words):
    """A part that says these words, in this order."""
    part = Part()
    for index, word in enumerate(words):
        name = (word.terminal, word.metric)
        if word.event:
            part.events.append(Event(name, NOW - word.age, {"vs": "open"}, index, word.own))
            continue
        for column, entry in ((part.names, name), (part.units, word.unit), (part.values, word.value),
                              (part.times, NOW - word.age)):  # fmt: skip
            column.append(entry)
        part.indexes = (*part.indexes, index)
    return part


def said(*parts, on_unknown=OnUnknown.REGISTER):
    """Codes heard, said to be offline and refused by parts that come in this order."""
    directory, registry, batch = Imagined(), Registry(), Batch()
    codes = sorted({word.terminal for words in parts for word in words})
    found = directory.find_terminals(codes)
    directory.find_terminals = lambda wanted: {code: found[code] for code in wanted if code != "stranger"}
    resolver = Resolver(registry, on_unknown, OnUnknown.REGISTER)
    resolver.load(directory)
    for words in parts:
        batch.add(Message("t", b"", NOW), Place(370102, "gw1"), [part_of(words)])
    sealed = seal(batch, resolver(directory, batch), registry, 90 * DAY)
    by_id = {known.id: code for code, known in found.items()}
    answer = presence(sealed, registry.metrics["online"].id)
    return tuple("".join(sorted(by_id[id_] for id_ in ids)) for ids in answer)


READING, LATE, BAD = Word("a"), Word("a", age=DAY + 1), Word("a", value=1e6)
ON, OFF = Word("a", "online", 1), Word("a", "online", 0)
EVENT = Word("a", "door", event=True)


@pytest.mark.parametrize(
    ("parts", "heard", "offline", "refused"),
    [
        ([[READING]], "a", "", ""),
        ([[LATE]], "", "", ""),
        ([[LATE, READING]], "a", "", ""),
        ([[EVENT]], "a", "", ""),
        ([[EVENT._replace(age=DAY + 1)]], "", "", ""),
        ([[EVENT._replace(own=False)]], "", "", ""),
        ([[EVENT, EVENT._replace(own=False)]], "a", "", ""),
        ([[OFF], [EVENT._replace(own=False)]], "", "a", ""),
        ([[ON]], "a", "", ""),
        ([[OFF]], "", "a", ""),
        ([[OFF._replace(age=DAY + 1)]], "", "", ""),
        ([[READING], [OFF]], "a", "a", ""),
        ([[OFF], [READING]], "a", "", ""),
        ([[OFF], [LATE]], "", "a", ""),
        ([[OFF], [EVENT]], "a", "", ""),
        ([[OFF], [BAD]], "a", "", ""),
        ([[OFF, READING]], "a", "a", ""),
        ([[READING, OFF]], "a", "a", ""),
        ([[OFF, EVENT]], "a", "a", ""),
        ([[OFF, ON]], "a", "", ""),
        ([[ON, OFF]], "a", "a", ""),
        ([[BAD]], "a", "", "a"),
        ([[BAD, READING]], "a", "", ""),
        ([[BAD], [LATE]], "a", "", ""),
        ([[BAD], [EVENT]], "a", "", ""),
        ([[BAD._replace(age=DAY + 1)]], "", "", ""),
        ([[Word("a", age=91 * DAY)]], "", "", ""),
        ([[Word("a", age=-8 * 3600)]], "a", "", "a"),
        ([[Word("a", unit="kPa")]], "a", "", "a"),
        ([[OFF._replace(age=-8 * 3600)]], "", "", ""),
        ([[OFF._replace(unit="kPa")]], "", "", ""),
        ([[Word("stranger", unit="kPa"), READING]], "a", "", ""),
        ([[OFF, Word("b")], [Word("c", "online", 0), Word("b", "online", 0)], [Word("d")]], "bd", "abc", ""),
    ],
)
def test_what_a_batch_says(parts, heard, offline, refused):
    """Heard is every arrival that is neither late nor an offline notice; the last word decides who is offline."""
    assert said(*parts, on_unknown=OnUnknown.REJECT) == (heard, offline, refused)


def expected(parts):
    """As `said`, one word after the other."""
    heard, offline, arrived, stored = set(), {}, set(), set()
    for words in parts:
        last = {}
        for word in words:
            bad, late = word.value == 1e6, word.age > DAY
            notice = word.metric == "online" and word.value == 0
            if not bad:
                stored.add(word.terminal)
            if late:
                continue
            (arrived if bad else heard).update({word.terminal} - ({word.terminal} if notice else set()))
            if word.metric == "online" and not word.event and not bad:
                last[word.terminal] = notice
            else:
                last.setdefault(word.terminal, False)
        offline |= last
    columns = heard | arrived, {code for code, off in offline.items() if off}, arrived - stored
    return tuple("".join(sorted(column)) for column in columns)


WORDS = st.builds(
    lambda terminal, word, age: word._replace(terminal=terminal, age=age),
    st.sampled_from("abc"), st.sampled_from([READING, BAD, ON, OFF, OFF, EVENT]), st.sampled_from([60, 60, 2 * DAY]),
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(parts=st.lists(st.lists(WORDS, min_size=1, max_size=4), min_size=1, max_size=5))
@example(parts=[[OFF], [EVENT], [OFF, ON, OFF]])
def test_columns_say_what_a_loop_says(parts):
    """The passes over columns agree with one word taken after the other."""
    assert said(*parts) == expected(parts)


class Desk:
    """A writer on a database, given payloads by topic as messages of one batch."""

    def __init__(self, database, **chosen):
        settings = Settings(database_url=database.url, **chosen)
        self.writer = Writer(settings, "desk-0", lambda _: False, time.time)
        self.decode = Decode(Routes.default(), 10_000_000, self.writer.registry)

    def write(self, *messages, at=NOW, **flags):
        batch = Batch()
        for number, (topic, body) in enumerate(messages):
            message = Message(
                f"ganzhi/v1/{topic}", json.dumps(body).encode(), at, packet_id=number + 1, **flags
            )
            way, parts = self.decode(message)
            batch.add(message, way.place, parts)
        return self.writer.write(batch)


@pytest.fixture
def desk(database):
    desk = Desk(database)
    yield desk
    desk.writer.close()


def rows_of(database):
    """Rows of `heard` that say who is there, oldest first: codes for bitmaps."""
    codes = dict(database.rows("SELECT id, code FROM terminal"))
    query = """SELECT terminals, offline, refused, gateways FROM heard
               WHERE num_nonnulls(terminals, offline, refused, gateways) > 0 ORDER BY id"""
    return [
        (
            *("".join(sorted(codes[n] for n in BitMap.deserialize(ids))) if ids else None for ids in bitmaps),
            told,
        )
        for *bitmaps, told in database.rows(query)
    ]


TELEMETRY = "370102/gw1/telemetry"
ON_POSTGRES = pytest.mark.parametrize("storage", ["postgres"])


@ON_POSTGRES
def test_a_batch_leaves_one_row(desk, database):
    """It names whom and which gateways it heard; what is known already, or says nothing, leaves none."""
    first = (
        TELEMETRY,
        [{"n": "a/temperature", "t": NOW, "v": 20}, {"n": "b/temperature", "t": NOW, "v": 1e6}],
    )
    desk.write(first, ("370102/gw1/presence", {"at": NOW, "offline": ["c"]}))
    desk.write(first, at=NOW + 40)
    desk.write((TELEMETRY, [{"n": "a/temperature", "t": NOW + 1, "v": 20}]), at=NOW + 41, retain=True)
    desk.write((TELEMETRY, [{"n": "a/temperature", "t": NOW - 2 * DAY, "v": 20}]), at=NOW + 29)
    assert rows_of(database) == [("ab", "c", "b", {"gw1": 370102})]
    assert database.one(
        "SELECT count(*) FROM ledger_client WHERE committed_at > now() - interval '1 min'"
    ) == (1,)


@ON_POSTGRES
def test_gateways_are_told_every_half_minute(desk, database):
    """Each by itself, also one whose payload can't be read; none by a topic that is refused, or for a failed batch."""

    def late(gateway, n):
        return f"370102/{gateway}/telemetry", [{"n": "a/temperature", "t": NOW - 2 * DAY + n, "v": 20}]

    def told():
        return [row[3] for row in rows_of(database)]

    desk.write(late("gw1", 1), late("gw1", 2), ("370203/gw2/telemetry", {"id": 5.5}))
    desk.write(late("gw1", 3), late("gw3", 4), at=NOW + 29)
    assert told() == [{"gw1": 370102, "gw2": 370203}, {"gw3": 370102}]
    desk.write(
        late("gw1", 5), late("gw3", 6), ("999999/gw4/telemetry", []), ("370102/gw5/status", {}), at=NOW + 30
    )
    assert told()[2:] == [{"gw1": 370102}]
    database.execute("ALTER TABLE heard ADD CONSTRAINT odd CHECK (gateways IS NULL) NOT VALID")
    with pytest.raises(Exception, match="odd"):
        desk.write(late("gw1", 7), at=NOW + 61)
    database.execute("ALTER TABLE heard DROP CONSTRAINT odd")
    desk.write(late("gw1", 7), at=NOW + 61)
    assert told()[3:] == [{"gw1": 370102}]


@ON_POSTGRES
def test_presence_is_stored_as_readings(desk, database):
    """Terminals that nobody knew are discovered, states land as metric `online`, and again they are duplicates."""
    body = {"at": int(NOW), "online": ["37010200001320000001", 860000000000009], "offline": ["x", ""]}
    assert desk.write(("370102/gw1/presence", body)).readings_rejected == {"invalid_name": 1}
    assert desk.write(("370102/gw1/presence", body)).messages_duplicate == 1
    query = "SELECT terminal, metric, value, division, extract(epoch FROM observed_at) FROM reading_detail ORDER BY 1"
    assert database.rows(query) == [
        ("gb28181:37010200001320000001", "online", 1.0, 370102, int(NOW)),
        ("imei:860000000000009", "online", 1.0, 370102, int(NOW)),
        ("x", "online", 0.0, 370102, int(NOW)),
    ]
    assert database.rows("SELECT DISTINCT state FROM terminal") == [("discovered",)]


@ON_POSTGRES
def test_only_registered_gateways_are_known(database):
    """A gateway that was heard and nobody registered is no registered one, nor is its division."""
    database.execute("INSERT INTO gateway (name, division, registered_at) VALUES ('mine', 370102, now()), "
                     "('stranger', 370203, NULL)")  # fmt: skip
    with connect(database.url) as conn:
        assert set(Directory(conn).gateways()) == {"mine"}


@ON_POSTGRES
def test_quality_is_counted_by_city(desk, database):
    """Readings received by city, and those of them without a flag; repeats and events are none of them."""
    fine = {"n": "a/temperature", "t": NOW, "v": 20}
    desk.write((TELEMETRY, [fine, fine | {"n": "b/temperature", "v": 5000}, {"n": "c/text", "vs": "x"}]))
    desk.write(
        (TELEMETRY, [fine, fine | {"n": "b/temperature", "v": 5000}, {"n": "c/text", "vs": "x"}]), at=NOW + 1
    )
    desk.write(
        ("370203/gw2/telemetry", [fine | {"n": "d/temperature", "u": "Cel", "t": NOW - 2 * DAY}]), at=NOW + 2
    )
    quality = [
        row for (row,) in database.rows("SELECT quality FROM heard WHERE quality IS NOT NULL ORDER BY id")
    ]
    assert quality == [{"370100": [1, 2]}, {"370200": [0, 1]}]
