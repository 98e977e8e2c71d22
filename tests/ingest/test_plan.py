"""The plan by command, on real databases: versions, audit, and what is there from the start."""

import subprocess
import sys
from datetime import date

import pytest

from devices.coverage import Target
from ingest import plan
from ingest.connection import connect
from ingest.terminal import CommandError
from tests.worker import environment

HEADER = "division,domain,target,due_on"
VERSIONS = "SELECT version, count(*), min(source), max(source) FROM plan GROUP BY version ORDER BY version"

pytestmark = pytest.mark.parametrize("storage", ["postgres"])


@pytest.fixture
def conn(database):
    with connect(database.url) as conn:
        yield conn


@pytest.fixture
def written(tmp_path):
    """Writes a file of these lines."""

    def write(*lines, encoding="utf-8"):
        path = tmp_path / "plan.csv"
        path.write_text("\n".join(lines) + "\n", encoding=encoding)
        return path

    return write


def test_an_assumed_plan_is_there_from_the_start(database):
    """Version 1 sums to the goal; migrating again adds no version, and takes no other's place."""
    start = [(1, 3200, "assumed", "assumed")]
    assert database.rows(VERSIONS) == start
    assert database.one("SELECT sum(target) FROM plan WHERE due_on = '2027-12-31'") == (300_000_000,)
    assert database.rows("SELECT division, value FROM declared ORDER BY value") == [
        (370000, 21), (370000, 38), (370000, 33e9)]  # fmt: skip
    database.execute("UPDATE plan SET version = 7")
    database.migrate()
    assert database.rows(VERSIONS) == [(7, *start[0][1:])]
    assert database.one("SELECT count(*) FROM declared") == (3,)


def test_an_import_is_a_new_version(database, conn, written):
    """The versions before stay; the newest is what is read; audit says who and what."""
    path = written("行政区划,领域,目标,截止日期", "370102,市政,7,2026-12-31", encoding="gb18030")
    row = Target(370102, "municipal", 7, date(2026, 12, 31), "declared")
    assert plan.import_plan(conn, path) == (2, [row])
    assert plan.import_plan(conn, path)[0] == 3
    assert database.rows(VERSIONS)[1:] == [(n, 1, "declared", "declared") for n in (2, 3)]
    assert plan.read(conn).rows == [row]
    assert (plan.read(conn).number, len(plan.read(conn, 1).rows), plan.read(conn, 9)) == (3, 3200, None)
    assert database.rows("SELECT actor = current_user, action, subject, detail ->> 'version', detail ->> 'target' "
                         "FROM audit ORDER BY at") == [
        (True, "plan import", "plan.csv", version, "7") for version in ("2", "3")]  # fmt: skip


def test_a_wrong_line_leaves_everything_as_it_was(database, conn, written):
    """No version, no line in audit; the error names the file and every line."""
    path = written(
        HEADER, "370102,energy,7,2026-12-31", "370102,energy,x,2026-12-31", "1,energy,7,2026-12-31"
    )
    with pytest.raises(
        CommandError, match=r"plan\.csv: nothing is imported, 2 things are wrong:\nline 3: .*\nline 4: "
    ):
        plan.import_plan(conn, path)
    assert database.one("SELECT max(version) FROM plan") == (1,)
    assert database.one("SELECT count(*) FROM audit") == (0,)


def test_declared_figures_are_added_and_corrected(database, conn, written):
    """A new one is added, a changed one corrected with its old value in audit, one that is the same left alone."""
    header, figure = "indicator,division,value,as_of,source", "video_smart_ratio,370000,{},2022-12-31,年报"
    assert plan.import_declared(conn, written(header, figure.format(0.7))) == (1, 0)
    assert plan.import_declared(conn, written(header, figure.format(0.7))) == (0, 0)
    assert plan.import_declared(conn, written(header, figure.format(0.71))) == (0, 1)
    assert [d.value for d in plan.declared(conn) if d.indicator == "video_smart_ratio"] == [0.71]
    assert database.rows("SELECT action, detail #>> '{corrected,0,before}' FROM audit ORDER BY at") == [
        ("plan import --declared", before) for before in (None, None, "0.7")]  # fmt: skip


def ganzhi(database, *words):
    done = subprocess.run([sys.executable, "-m", "ingest.cli", *words], capture_output=True, text=True, check=False,
                          env=environment() | {"GANZHI_DATABASE_URL": database.url})  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def test_the_commands(database, written):
    """Import and show, with exit codes; a day before the first row, and a version that is not, are said in words."""
    path = written(HEADER, "370100,energy,1000000,2026-12-31", "370102,energy,400000,2026-12-31")
    code, out, _ = ganzhi(database, "plan", "import", str(path))
    assert (code, out) == (0, "plan 2: 2 rows, 1,000,000 terminals by 2026-12-31\n")
    code, out, _ = ganzhi(database, "plan", "show", "--version", "1", "--day", "2027-12-31")
    assert code == 0
    for part in ("370100 济南市", "300,000,000", "假定 assumed", "市政", "identifier_registrations"):
        assert part in out
    code, out, _ = ganzhi(database, "plan", "show", "--day", "2026-12-30")
    assert "nothing is due by 2026-12-30; the first rows are due 2026-12-31" in out
    assert ganzhi(database, "plan", "show", "--version", "9")[::2] == (1, "ganzhi: there is no plan 9\n")
    code, _, err = ganzhi(database, "plan", "import", str(written(HEADER, "370100,energy,-1,2026-12-31")))
    assert code == 1
    assert "line 2: target" in err
