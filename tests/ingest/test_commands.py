"""What commands have in common: what comes from outside is printed as it is, domains in Chinese, and who may what."""

import io
import time

import pytest
from typer.testing import CliRunner

from ingest import gaps, roles
from ingest.cli import app
from ingest.connection import connect
from ingest.simulate import Published
from ingest.terminal import Plain

TOPIC = "ganzhi/v1/370102/gw1/telemetry"
REJECTION = ("INSERT INTO rejection (received_at, topic, gateway, reason, rejected, total, detail, payload) VALUES "
             "(now(), 'a/:x:/[/b]', 'gw1', %s, %s, %s, "
             """'[{"index": null, "reason": "r", "detail": "not [/i] :x:", "hint": "[red]"}]', %s)""")  # fmt: skip
ONE_STORAGE = pytest.mark.parametrize("storage", ["postgres"])


def ganzhi(*arguments, url="", code=0):
    """What a command prints; ends the test when its exit code is another."""
    done = CliRunner().invoke(app, arguments, env={"GANZHI_DATABASE_URL": url, "COLUMNS": "250"})
    assert done.exit_code == code, done.output
    return " ".join(done.output.split())


@pytest.mark.parametrize("name", ["dev:x:1[/b]", "dev[red]", "ctwing:x:1", "[link=a]b"])
def test_a_code_is_printed_as_it_is(name):
    """What looks like markup or an emoji is neither, in readings and in events."""
    said = ganzhi("decode", TOPIC, f'{{"id": "{name}", "values": {{"temperature": 21, "note": ":x:[/]"}}}}')
    assert said.count(name) == 2
    assert ":x:[/]" in said


def test_control_characters_are_spelt_out():
    """Nothing from outside moves the cursor, colours or turns a line; lines, tabs and Chinese stay."""
    screen = io.StringIO()
    Plain(file=screen, width=80).print("a\x1b[2Jb\r\u202ec\n汉\u3000字\t.")
    assert screen.getvalue().split() == [r"a\x1b[2Jb\r\u202ec", "汉", "字", "."]


@ONE_STORAGE
def test_rejections_are_printed_as_they_came(database):
    """Topic, detail, hint and payload are untouched; of a message that nobody could read, all was refused."""
    for row in (["malformed_payload", 0, 0, b"[/x]\x1b:x:"], ["out_of_range", 1, 3, b""]):
        database.rows(REJECTION + " RETURNING 1", *row)
    listed = ganzhi("rejections", "list", url=database.url)
    assert "not [/i] :x:" in listed
    assert "全部 all" in listed
    assert "1 of 3" in listed
    (number,) = database.one("SELECT min(id) FROM rejection")
    shown = ganzhi("rejections", "show", str(number), url=database.url)
    for part in ("topic a/:x:/[/b]", "message r: not [/i] :x:; [red]", r"[/x]\x1b:x:", "refused 全部 all"):
        assert part in shown


@ONE_STORAGE
def test_a_domain_has_its_chinese_name_everywhere(database, tmp_path):
    """Exports and maintenance take 市政 as municipal, and name all ten where they know none of it."""
    database.execute("INSERT INTO terminal (id, code, scheme, division, domain, state) VALUES "
                     "(1, 'a', 'other', 370102, 'municipal', 'installed'), (2, 'b', 'other', 370102, 'energy', "
                     "'installed')")  # fmt: skip
    file = tmp_path / "out.csv"
    ganzhi("terminals", "export", "--domain", "市政", "--out", str(file), url=database.url)
    assert [line.split(",")[0] for line in file.read_text().splitlines()] == ["code", "a"]
    span = ("--from", "2026-12-01", "--to", "2026-12-02")
    ganzhi("export", "--domain", "市政", *span, "--out", str(file), url=database.url)
    ganzhi("maintenance", "add", "--division", "370102", "--domain", "市政", "--reason", "x", *span,
           url=database.url)  # fmt: skip
    assert database.one("SELECT domain, since FROM planned_maintenance WHERE since = '2026-11-30T16:00Z'")[
        0
    ] == ("municipal")
    for words in (("export", *span), ("terminals", "export")):
        assert "municipal 市政" in ganzhi(*words, "--domain", "水", url=database.url, code=2)


@ONE_STORAGE
def test_a_role_that_may_not_is_told_who_may(database, tmp_path):
    """One line with the role that is logged in, what it lacks and who may; exit code 1."""
    database.execute("INSERT INTO terminal (id, code, scheme, division, state) "
                     "VALUES (1, 'a', 'other', 370102, 'installed'); "
                     "INSERT INTO coverage_gap (kind, division, opened_at, expected, live, evidence) "
                     "VALUES ('dark', 370102, now(), 20, 0, '{}')")  # fmt: skip
    with connect(database.url) as conn:
        roles.make(conn, None, ())
        gap = gaps.list_gaps(conn)[0].id
    file = tmp_path / "register.csv"
    file.write_text("code\nx\n")
    for role, lacks, words in (
        ("ganzhi_reader", "permission denied for table heard", ("terminals", "show", "a")),
        ("ganzhi_reader", "read-only transaction", ("gaps", "ack", str(gap))),
        ("ganzhi_writer", "temporary tables", ("terminals", "import", str(file))),
        ("ganzhi_reader", "permission denied", ("status",)),
    ):
        said = ganzhi(*words, url=database.url.replace("postgres@", f"{role}@"), code=1)
        for part in (f"{role} may not do this", lacks, "ganzhi_observer: status, gaps"):
            assert part in said
    assert "imported" not in said


def test_a_slow_rate_has_a_decimal():
    """Below ten messages a second it counts."""
    assert "(0.3 messages/s)" in str(Published(42, 42, 42, 149.5))
    assert "(50 messages/s)" in str(Published(5_000, 5_000, 5_000, 100.0))


@ONE_STORAGE
def test_a_maintenance_is_ended(database):
    """One that runs ends now, one that has not begun is gone, one that is over stays; audit keeps what was planned."""
    database.execute("INSERT INTO planned_maintenance (gateway, since, until, reason) VALUES "
                     "('gw1', now() - interval '1 h', now() + interval '1 h', '[/换卡]'), "
                     "('gw1', now() + interval '1 h', now() + interval '2 h', 'later'), "
                     "('gw1', now() - interval '2 h', now() - interval '1 h', 'before')")  # fmt: skip
    running, later, before = (
        str(id_) for (id_,) in database.rows("SELECT id FROM planned_maintenance ORDER BY id")
    )
    assert "is over" in ganzhi("maintenance", "end", running, url=database.url)
    assert "removed" in ganzhi("maintenance", "end", later, url=database.url)
    for number in (running, later, before, "99"):
        assert f"no maintenance {number} that is not over" in ganzhi(
            "maintenance", "end", number, url=database.url, code=1
        )
    assert database.rows("SELECT id::text FROM planned_maintenance ORDER BY id") == [(running,), (before,)]
    with connect(database.url) as conn:
        assert gaps.read(conn, time.time())[1] == []
    assert database.rows("SELECT subject, detail ->> 'reason', detail ->> 'removed' FROM audit "
                         "WHERE action = 'maintenance end' ORDER BY at") == [
        (running, "[/换卡]", "false"), (later, "later", "true")]  # fmt: skip


@ONE_STORAGE
def test_a_gap_says_that_it_is_of_the_rest_of_a_city(database, tmp_path):
    """A missed target of a city is its counties' without their own, where the newest plan has such; plans show them."""
    plan = tmp_path / "plan.csv"
    plan.write_text("division,domain,target,due_on\n370100,energy,1500,2026-01-01\n370102,energy,100,2026-01-01\n"
                    "370100,transport,70,2026-01-01\n370200,energy,70,2026-01-01\n")  # fmt: skip
    ganzhi("plan", "import", str(plan), url=database.url)
    database.execute("INSERT INTO coverage_gap (kind, division, domain, opened_at, expected, live, evidence) VALUES "
                     "('under_target', 370100, 'energy', now(), 1400, 0, '{}'), "
                     "('under_target', 370100, 'transport', now(), 70, 0, '{}'), "
                     "('dark', 370100, 'energy', now(), 70, 0, '{}')")  # fmt: skip
    with connect(database.url) as conn:
        rest = {(gap.kind, gap.domain): gap for gap in gaps.list_gaps(conn)}
    assert [key for key, gap in rest.items() if gap.rest] == [("under_target", "energy")]
    number = rest["under_target", "energy"].id
    assert ganzhi("gaps", "list", url=database.url).count("370100 济南市 Jinan 其余 rest") == 1
    assert "rest of the city, without the counties that have targets of their own" in ganzhi(
        "gaps", "show", str(number), url=database.url
    )
    shown = ganzhi("plan", "show", "--division", "370100", "--day", "2026-02-01", url=database.url)
    for part in ("370102 历下区 100 100", "370100 济南市 其余 rest 70 1,400 1,470", "total 70 1,500 1,570"):
        assert part in shown
    assert "370200" not in shown
    assert "370300 by 2026-02-01" in ganzhi(
        "plan", "show", "--division", "370300", "--day", "2026-02-01", url=database.url
    )
    for place in ("370102", "37"):
        ganzhi("plan", "show", "--division", place, url=database.url, code=2)
