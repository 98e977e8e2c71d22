"""`ganzhi observe --recount` beside a real observer whose arrays are wrong, and without one."""

import subprocess
import sys

import pytest

from ingest.recount import Figures, Place, compared, recount
from ingest.settings import Settings
from ingest.terminal import CommandError
from tests.worker import environment

JINAN, QINGDAO = (370100, "municipal", "verified"), (370200, "municipal", "verified")
REGISTER = """
INSERT INTO terminal (id, code, scheme, division, domain, profile, state, installed_on)
SELECT n, 'imei:' || n, 'imei', CASE WHEN n <= 60 THEN 370102 ELSE 370103 END, 'municipal', 'water_meter', 'installed',
       current_date - 100 FROM generate_series(1, 120) AS n
"""
HEARD = "UPDATE terminal SET first_heard_at = now() WHERE id <= 100"
"""No change of the registry: an observer that has missed these arrivals does not learn of them by it."""
FALL = [Place(370100, "municipal", "never_heard", (120, 120), 20),
        Place(370100, "municipal", "verified", (0, 0), 100)]  # fmt: skip


def ganzhi(settings):
    """Exit code and standard output."""
    done = subprocess.run(
        [sys.executable, "-m", "ingest.cli", "observe", "--recount"], env=environment(**settings),
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout


@pytest.mark.parametrize(
    ("before", "after", "database", "differing"),
    [
        ({JINAN: 5}, {JINAN: 5}, {JINAN: 5}, []),
        ({JINAN: 5}, {JINAN: 9}, {JINAN: 7}, []),
        ({JINAN: 9}, {JINAN: 5, QINGDAO: 4}, {JINAN: 6, QINGDAO: 3}, []),
        ({JINAN: 5}, {JINAN: 9}, {JINAN: 10}, [Place(*JINAN, (5, 9), 10)]),
        ({JINAN: 5}, {JINAN: 5}, {}, [Place(*JINAN, (5, 5), 0)]),
        ({}, {}, {QINGDAO: 1}, [Place(*QINGDAO, (0, 0), 1)]),
    ],
)
def test_what_moved_lies_between_two_looks(before, after, database, differing):
    """A figure that stands still must be equal; one that moved while the database was counted lies between."""
    assert compared(Figures(before), Figures(after), Figures(database)) == differing


@pytest.mark.parametrize("storage", ["postgres"])
def test_the_recount_holds_the_running_figures_against_the_database(database, new_worker):
    """What an observer publishes and SQL does not count is said by city, domain and state; so is what was compared."""
    database.execute(REGISTER)
    observer = new_worker("observe", observe_seconds=0.2)
    settings = {"database_url": database.url, "observer_http_port": observer.port}
    observer.start()
    observer.wait(lambda m: m("terminals_installed") == 120, "counting")
    found = recount(Settings(**settings))
    assert found.differing == []
    assert f"publishes at 127.0.0.1:{observer.port}" in found.against
    database.execute(HEARD)
    code, said = ganzhi(settings)
    assert code == 1
    assert "370100 municipal, never_heard: 120 published, 20 in the database" in said
    assert "370100 municipal, verified: 0 published, 100 in the database" in said
    observer.terminate()
    found = recount(Settings(**settings))
    assert found.differing == FALL
    assert "coverage rows of" in found.against


@pytest.mark.parametrize("storage", ["postgres"])
def test_a_recount_with_nothing_to_compare_says_so(database):
    """Without an observer and a row of coverage it fails, and says what is missing."""
    database.execute(REGISTER)
    with pytest.raises(
        CommandError, match=r"no observer answers at 127\.0\.0\.1:1, and table coverage is empty"
    ):
        recount(Settings(database_url=database.url, observer_http_port=1))
