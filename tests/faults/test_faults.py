"""The short cases of faults, seconds each, and that the judgement sees what it is there for."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.brokers import needs_mosquitto
from tests.faults.case import Case, load
from tests.faults.oracle import judge
from tests.faults.stand import Stand
from tests.postgres import timescale_programs

pytestmark = needs_mosquitto
SHORT = [pytest.param(case, id=name) for name, case in load().items() if case.short]


@pytest.fixture
def storage() -> str:
    """One is enough."""
    return "timescale" if timescale_programs() else "postgres"


@pytest.mark.parametrize("case", SHORT)
def test_fault(case: Case, database, tmp_path: Path) -> None:
    """What the broker acknowledged is stored once or refused once, and the service is as it was."""
    if case.missing:
        pytest.skip(case.missing)
    own_server = bool(case.stand)
    with Stand(tmp_path, None if own_server else (database.server, database.url), **case.stand) as stand:
        case.play(stand, case.short)
        verdict = judge(stand)
    assert not verdict.faults, verdict


@pytest.fixture
def calm(database, tmp_path: Path) -> Iterator[Stand]:
    """A stand on which nothing breaks, with readings in the database."""
    with Stand(tmp_path, (database.server, database.url)) as stand:
        stand.worker()
        stand.publish()
        stand.warm_up()
        stand.healed()
        yield stand


def test_judgement(calm: Stand) -> None:
    """A reading that is lost, doubled or foreign, a rejection that is another and an event are told, by number."""
    assert judge(calm).faults == []
    calm.execute(
        "CREATE TABLE moved AS SELECT * FROM reading WHERE value IN (5, 6)",
        "DELETE FROM reading WHERE value IN (5, 7)",
        "INSERT INTO reading SELECT * FROM moved WHERE value = 6",
        "INSERT INTO reading SELECT observed_at + interval '1 s', terminal_id, metric_id, cell_id, 5, 0 FROM moved"
        " WHERE value = 5",
        "UPDATE rejection SET reason = 'unsupported' WHERE id = (SELECT min(id) FROM rejection)",
        "INSERT INTO event SELECT observed_at, terminal_id, 'x', '{}' FROM moved LIMIT 1",
    )
    verdict = judge(calm)
    assert (verdict.lost, verdict.doubled) == (2, 1)
    said = "\n".join(verdict.faults)
    told = (
        "1 readings are lost: 7",
        "1 readings are doubled: 6",
        "1 readings are stored that nobody sent",
        "1 rejections are lost: out_of_range",
        "1 rejections are stored of what nobody sent so: unsupported",
        "1 events",
    )
    assert [words for words in told if words not in said] == []
