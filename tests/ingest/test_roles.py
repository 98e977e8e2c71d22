"""Roles of the database: each can do what it must and no more, and a city sees itself only."""

import base64
import hashlib
import hmac
import re
import subprocess
import sys
import time

import psycopg
import pytest
from psycopg.errors import InsufficientPrivilege

from ingest import check_database, maintain, migrate, roles, status
from ingest.connection import connect
from ingest.finding import Level
from ingest.settings import Settings
from schemas.sql import migrations
from tests.worker import environment

CITY, COUNTY, ELSEWHERE = 370100, 370102, 370202
CITY_ROLE = f"ganzhi_reader_{CITY}"
DAYS = ("2026-11-01", "2026-11-02", "2026-11-03")
SEED = f"""
INSERT INTO terminal (id, code, scheme, division, domain, state)
VALUES (1, 'a', 'other', {COUNTY}, 'other', 'installed'), (2, 'b', 'other', {ELSEWHERE}, 'other', 'installed'),
       (3, 'c', 'other', {CITY}, 'other', 'installed'), (4, 'd', 'other', 370000, 'other', 'installed');
INSERT INTO alias (scheme, value, terminal_id) SELECT 'ctwing', code, id FROM terminal;
INSERT INTO gateway (name, division) SELECT 'gw' || id, division FROM terminal;
INSERT INTO reading SELECT day::timestamptz + interval '1 hour', terminal.id, 1, cell.id, terminal.id, 0
FROM terminal JOIN cell USING (division, domain), unnest('{{{",".join(DAYS)}}}'::date[]) AS day;
INSERT INTO event SELECT '{DAYS[0]}', id, 'door', '{{}}' FROM terminal;
INSERT INTO rejection (received_at, topic, division, reason, rejected, total, detail, payload)
SELECT '{DAYS[0]}', 't', division, 'bad_topic', 1, 1, '[]', '' FROM terminal;
INSERT INTO indicator (day, name, division, value) SELECT '{DAYS[0]}', 'x', division, id FROM terminal;
INSERT INTO plan (version, division, domain, target, due_on, source)
SELECT 99, division, 'other', id, '{DAYS[0]}', 'declared' FROM terminal;
INSERT INTO coverage SELECT '{DAYS[0]}', division, 'other', id, 0, 0, 0, 0, 0, 0, 0, 0, 0 FROM terminal;
INSERT INTO coverage_gap (opened_at, kind, division, expected, live, evidence)
SELECT '{DAYS[0]}', 'dark', division, id, 0, '{{}}' FROM terminal;
"""
OWNER, WRITER, OBSERVER, READER, CITYS = (*roles.LOGINS, CITY_ROLE)
WHO = dict(zip("OWBRC", (OWNER, WRITER, OBSERVER, READER, CITYS), strict=True))
TIMESCALE = "_timescaledb_functions"
CHUNK = "(SELECT min(c::text)::regclass FROM show_chunks('public.reading') AS c) AS chunk (c)"
MAY = {
    "SELECT FROM reading_detail": "OBRC",
    "SELECT FROM reading": "OBRC",
    "SELECT FROM reading_hourly": "OBRC",
    "SELECT FROM reading_daily": "OBRC",
    "SELECT FROM event": "OBRC",
    "SELECT FROM public.reading": "OBR",
    "SELECT FROM public.reading_detail": "OBR",
    "SELECT FROM public.reading_hourly": "OBR",
    "SELECT FROM public.terminal": "OWBR",
    "SELECT FROM public.rejection": "OWBR",
    "SELECT FROM terminal": "OWBRC",
    "SELECT FROM rejection": "OWBRC",
    "SELECT FROM cell, division, schema_version": "OWBRC",
    "SELECT FROM ledger": "OWB",
    "SELECT terminals FROM heard": "OB",
    "SELECT FROM terminal_readings('a', '-infinity', 'infinity')": "OBRC",
    "SELECT drop_raw('2020-01-01')": "O",
    "INSERT INTO reading VALUES ('2026-11-01', 1, 1, 1, 1, 0)": "OW",
    "INSERT INTO heard (heard_at, terminals) VALUES (now(), '')": "OW",
    "INSERT INTO gateway (name) VALUES ('x')": "OB",
    "UPDATE reading SET value = 0": "O",
    "DELETE FROM reading": "O",
    "DELETE FROM ledger": "O",
    "DELETE FROM heard": "OB",
    "DELETE FROM rejection": "O",
    "UPDATE rejection SET resolved_at = now()": "OW",
    "UPDATE rejection SET payload = ''": "O",
    "UPDATE terminal SET first_heard_at = now()": "OB",
    "UPDATE terminal SET division = 370000": "O",
    "UPDATE terminal SET code = code": "O",
    "UPDATE terminal SET state = 'retired', retired_on = now()": "OW",
    "SELECT put_alias('a', 'ctwing', 'x', NULL, NULL)": "OW",
    "UPDATE public.alias SET valid_to = now()": "O",
    "DELETE FROM public.alias": "O",
    "TRUNCATE ledger": "O",
    "ALTER TABLE alias ADD COLUMN x int": "O",
    "CREATE TABLE public.mine (x int)": "O",
    "CREATE TEMPORARY TABLE mine (x int)": "O",
    "CREATE FUNCTION public.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'": "O",
    "CREATE ROLE mallory": "",
    "SELECT pg_read_file('PG_VERSION')": "",
    "SELECT pg_advisory_lock(hashtext('ganzhi.registry'))": "OWB",
    "SELECT pg_try_advisory_xact_lock_shared(1, 1)": "OWB",
    "SELECT lo_from_bytea(0, 'x')": "",
    "SELECT lo_creat(-1)": "",
    "SELECT pg_logical_emit_message(false, 'x', 'x')": "",
    "SELECT sum(v) FROM generate_series(1, 9) AS v, hashtext('x')": "OWBRC",
}
MAY_THERE = {
    "postgres": {"SELECT ensure_days('reading', '{2020-01-01}')": "OW", "DROP TABLE reading_20261101": "O"},
    "timescale": {
        "SELECT drop_chunks('public.reading', '2026-11-02'::timestamptz)": "O",
        "CALL refresh_continuous_aggregate('public.reading_hourly', NULL, NULL)": "O",
        f"SELECT {TIMESCALE}.freeze_chunk(c) FROM {CHUNK}": "O",
        f"SELECT {TIMESCALE}.freeze_chunk(c), {TIMESCALE}.unfreeze_chunk(c) FROM {CHUNK}": "O",
        f"SELECT {TIMESCALE}.drop_chunk(c) FROM {CHUNK}": "O",
        f"SELECT {TIMESCALE}.stop_background_workers()": "",
        "SELECT compress_chunk(c, true) FROM show_chunks('public.reading') AS c": "O",
        "SELECT add_job('public.drop_raw', '1 day')": "O",
        "SELECT add_job('pg_catalog.pg_sleep', '1 day')": "O",
        "SELECT time_bucket_gapfill('1 day', observed_at, now() - interval '1 day', now()) AS day FROM reading "
        "WHERE observed_at > now() GROUP BY day": "OBRC",
        "SELECT hypertable_size('public.reading')": "OWBRC",
    },
}
"""In a transaction of their own."""


def as_role(database, role):
    """The database's URL for this role, which may write as far as its rights go."""
    return database.url.replace("postgres@", f"{role}@")


def make(database, cities=(CITY,), password_dir=None):
    with connect(database.url) as conn:
        return roles.make(conn, password_dir, cities)


@pytest.fixture
def roled(database):
    """A database with its roles and a few rows of each kind, in the city and elsewhere."""
    if database.storage == "postgres":
        for table in ("reading", "event"):
            database.rows("SELECT ensure_days(%s::regclass, %s::date[])", table, list(DAYS))
    database.execute(SEED)
    make(database)
    return database


def allowed(database, role, *statements):
    """Those that the role may; nothing of them stays. What goes wrong otherwise is raised."""
    with psycopg.connect(as_role(database, role), autocommit=True,
                         options="-c default_transaction_read_only=off") as conn:  # fmt: skip
        return [statement for statement in statements if _may(conn, statement)]


def _may(conn, statement):
    try:
        if statement.startswith("CALL"):  # it makes transactions of its own
            conn.execute(statement)
        else:
            with conn.transaction(force_rollback=True):
                conn.execute(statement)
    except InsufficientPrivilege:
        return False
    return True


def who_may(database, statements):
    """The letters of the roles that may, by statement."""
    may = {who: set(allowed(database, role, *statements)) for who, role in WHO.items()}
    return {s: "".join(who for who in WHO if s in may[who]) for s in statements}


def test_each_role_can_do_no_more_than_it_must(roled):
    """Role by statement: allowed, or refused for want of a right, also without the guard of read-only."""
    table = MAY | MAY_THERE[roled.storage]
    assert who_may(roled, table) == table


STRAY = f"""
GRANT SELECT ON reading TO PUBLIC;
GRANT SELECT ON terminal, reading_hourly TO {CITY_ROLE};
GRANT UPDATE (code) ON terminal TO {WRITER};
GRANT SELECT ON ledger TO {READER} WITH GRANT OPTION;
SET ROLE {READER}; GRANT SELECT ON ledger TO {CITY_ROLE}; RESET ROLE;
GRANT EXECUTE ON FUNCTION drop_raw TO {WRITER}, PUBLIC;
GRANT EXECUTE ON FUNCTION pg_advisory_lock(bigint), lo_from_bytea TO PUBLIC;
GRANT CREATE ON SCHEMA public TO {CITY_ROLE};
GRANT {READER} TO {CITY_ROLE} WITH ADMIN OPTION;
GRANT {OWNER}, pg_read_all_data TO {WRITER};
ALTER ROLE {CITY_ROLE} BYPASSRLS CREATEROLE;
ALTER DEFAULT PRIVILEGES FOR ROLE {OWNER} GRANT SELECT ON TABLES TO {CITY_ROLE};
ALTER DEFAULT PRIVILEGES FOR ROLE {OWNER} IN SCHEMA public GRANT SELECT ON TABLES TO PUBLIC
"""


def test_rights_that_somebody_gave_are_taken_back(roled):
    """From everybody and from a city that is not named this time too; what each must have stays."""
    roled.execute(STRAY)
    roled.execute(f"GRANT TEMPORARY ON DATABASE {roled.url.rpartition('/')[2]} TO {CITY_ROLE}")
    done = make(roled, [])
    gone = {line.partition(": no longer a member of ")[::2] for line in done if "no longer" in line}
    assert gone == {(CITY_ROLE, READER), (WRITER, OWNER), (WRITER, "pg_read_all_data")}
    asked = [s for s in MAY if not s.startswith("INSERT") and "alias" not in s]
    assert who_may(roled, asked) == {s: MAY[s] for s in asked}
    assert (
        roled.rows(
            "SELECT rolname FROM pg_roles WHERE rolname = %s AND (rolbypassrls OR rolcreaterole)", CITY_ROLE
        )
        == []
    )
    assert readable(roled, WRITER) == readable(roled, CITY_ROLE) == []
    roled.execute(f"SET ROLE {OWNER}; CREATE TABLE later (x int)")
    assert not allowed(roled, CITY_ROLE, "SELECT FROM public.later")


@pytest.mark.parametrize("storage", ["postgres"], indirect=True)
def test_other_roles_of_the_server_keep_what_they_were_given(roled):
    """A person's rights and memberships are the administrator's business."""
    roled.execute(f"DROP ROLE IF EXISTS ganzhi_test_person; CREATE ROLE ganzhi_test_person LOGIN; "
                  f"GRANT {READER} TO ganzhi_test_person; GRANT SELECT ON ledger TO ganzhi_test_person")  # fmt: skip
    make(roled)
    for table in ("reading", "ledger"):
        assert allowed(roled, "ganzhi_test_person", f"SELECT FROM {table}")
    roled.execute("DROP OWNED BY ganzhi_test_person; DROP ROLE ganzhi_test_person")


def test_a_worker_ingests_as_the_writer(roled, new_worker, gateway, settled):
    """New terminals, metrics and days, rejections and duplicates need nothing beyond its grants."""
    worker = new_worker(database_url=as_role(roled, WRITER))
    worker.start()
    worker.wait_ready()
    now = time.time()
    pack = ",".join(f'{{"n":"new:{m}","t":{now - day * 86_400},"v":1}}' for day in range(3) for m in "xy")
    topic = f"ganzhi/v1/{COUNTY}/gw1/telemetry"
    gateway.publish(topic, f"[{pack}]".encode(), f"[{pack}]".encode(), b'[{"n":"door:open","vb":true}]', b"{")
    metrics = settled(worker)
    metrics.assert_balanced()
    assert metrics("readings_committed_total") == 7
    assert metrics("messages_duplicate_total") == 1
    assert metrics("messages_rejected_total") == 1
    assert metrics("direct_compress") == (roled.storage == "timescale")
    assert worker.terminate() == 0


def test_nothing_belongs_to_the_superuser(roled):
    """Tables, views and functions are the owner's, their partitions and the hidden ones of rollups too."""
    if roled.storage == "timescale":
        pattern = "^(_hyper_|_materialized_|_partial_|_direct_|compress_hyper)"
        hidden = roled.rows("SELECT DISTINCT pg_get_userbyid(relowner) FROM pg_class WHERE relkind IN ('r', 'v') "
                            "AND relname ~ %s", pattern)  # fmt: skip
        assert hidden == [(OWNER,)]
    listed = roled.rows(
        "SELECT DISTINCT pg_get_userbyid(relowner) FROM pg_class WHERE relkind IN ('r', 'p', 'v') "
        "AND relnamespace IN ('public'::regnamespace, 'city'::regnamespace)"
    )
    assert listed == [(OWNER,)]


@pytest.mark.parametrize("storage", ["postgres"], indirect=True)
def test_every_view_of_a_city_has_the_columns_of_its_table(roled):
    """A panel made for the province works for a city."""
    names = [name for (name,) in roled.rows("SELECT viewname FROM pg_views WHERE schemaname = 'city'")]
    assert {"reading", "terminal", "indicator"} < set(names)
    query = ("SELECT array_agg(attname ORDER BY attnum) FROM pg_attribute WHERE attrelid = %s::regclass "
             "AND attnum > 0 AND NOT attisdropped")  # fmt: skip
    for name in set(names) - {"own_cell"}:
        assert roled.one(query, f"city.{name}") == roled.one(query, f"public.{name}")


def test_a_city_sees_its_own_rows_only(roled):
    """Its counties included; not the province's own, and another city's reader sees others."""
    make(roled, [ELSEWHERE])
    asked = {
        "reading": "SELECT DISTINCT terminal_id FROM reading",
        "reading_detail": "SELECT DISTINCT CASE terminal WHEN 'a' THEN 1 WHEN 'b' THEN 2 WHEN 'c' THEN 3 END "
        "FROM reading_detail",
        "reading_hourly": "SELECT DISTINCT sum::int FROM reading_hourly",
        "reading_daily": "SELECT DISTINCT terminal_id FROM reading_daily",
        "event": "SELECT DISTINCT terminal_id FROM event",
        "terminal": "SELECT id FROM terminal",
        "alias": "SELECT terminal_id FROM alias",
        "indicator": "SELECT value::int FROM indicator",
        "plan": "SELECT target FROM plan WHERE version = 99",
        "coverage": "SELECT planned FROM coverage",
        "coverage_gap": "SELECT expected FROM coverage_gap",
        "terminal_readings": "SELECT DISTINCT id FROM generate_series(1, 4) AS id, "
        "terminal_readings(chr(96 + id), '-infinity', 'infinity')",
        "gateway": "SELECT right(name, 1)::int FROM gateway",
        "rejection": f"SELECT DISTINCT CASE division WHEN {COUNTY} THEN 1 WHEN {ELSEWHERE} THEN 2 "
        f"WHEN {CITY} THEN 3 END FROM rejection",
    }
    for role, own in ((CITY_ROLE, {1, 3}), (f"ganzhi_reader_{ELSEWHERE}", {2})):
        with psycopg.connect(as_role(roled, role)) as conn:
            found = {name: {row[0] for row in conn.execute(query)} for name, query in asked.items()}
        assert found == dict.fromkeys(asked, own)


@pytest.mark.parametrize("role", [WRITER, CITYS])
def test_there_is_no_way_around(roled, role):
    """Partitions, chunks and the tables behind rollups are closed to those who may not read the whole."""
    assert readable(roled, role) == []


def readable(database, role):
    """Partitions, chunks and tables behind rollups that the role may read."""
    inner = database.rows("SELECT oid::regclass::text FROM pg_class WHERE relkind = 'r' AND (relispartition "
                          "OR relname ~ '^(_hyper_|_materialized_|compress_hyper_)')")  # fmt: skip
    assert len(inner) >= len(DAYS)
    asked = "SELECT has_any_column_privilege(%s, %s, 'SELECT')"
    return [name for (name,) in inner if database.one(asked, role, name)[0]]


@pytest.mark.parametrize("view", ["reading", "reading_daily", "event"])
def test_a_condition_tells_nothing_about_rows_of_others(roled, view):
    """One that fails on a row of another city is never asked about it."""
    with psycopg.connect(as_role(roled, CITY_ROLE)) as conn:
        assert conn.execute(f"SELECT FROM {view} WHERE 1 / (terminal_id - 2) > 5").fetchall() == []
    with psycopg.connect(as_role(roled, READER)) as conn, pytest.raises(psycopg.errors.DivisionByZero):
        conn.execute(f"SELECT FROM {view} WHERE 1 / (terminal_id - 2) > 5")


def test_a_city_reads_no_more_chunks_than_the_province(roled):
    """The barrier of the city's views lets conditions on time and terminal through to the table."""
    query = "EXPLAIN SELECT * FROM reading_detail WHERE terminal = 'a' AND observed_at >= '2026-11-03'"
    for role in (READER, CITY_ROLE):
        with psycopg.connect(as_role(roled, role)) as conn:
            plan = "\n".join(row[0] for row in conn.execute(query))
        assert len(set(re.findall(r"\b_hyper_\d+_\d+_chunk|\breading_2026\d{4}", plan))) == 1, plan


@pytest.mark.parametrize("role", [READER, CITY_ROLE])
@pytest.mark.parametrize("storage", ["postgres"], indirect=True)
def test_readers_are_guarded_against_mistakes(roled, role):
    """Their sessions are read-only, and end what takes too long."""
    with psycopg.connect(as_role(roled, role)) as conn:
        assert conn.execute("SHOW transaction_read_only").fetchone() == ("on",)
        assert conn.execute("SHOW statement_timeout").fetchone() == ("30s",)


def test_the_owner_brings_the_next_release(roled, monkeypatch):
    """It migrates without a superuser, and the roles get their rights on what is new."""
    step = migrate.Migration(9000, "later", None, "DROP TABLE quality; CREATE TABLE quality "
                             "(x int); CREATE TABLE internal (x int)")  # fmt: skip
    monkeypatch.setattr(migrate, "migrations", lambda: (*migrations(), step))
    with connect(as_role(roled, OWNER)) as conn:
        assert migrate.migrate(conn).applied == ["9000 later"]
        assert roles.renew(conn)
    assert allowed(roled, READER, "SELECT FROM quality")
    assert not allowed(roled, READER, "SELECT FROM internal")
    assert allowed(roled, CITY_ROLE, "SELECT FROM reading")


def test_the_owner_maintains(roled):
    """Partitions, duplicates, recompression and rollups need no superuser."""
    twice = roled.one("SELECT count(*) FROM reading")[0]
    roled.execute("INSERT INTO reading SELECT * FROM reading")
    done = migrate_command(as_role(roled, OWNER), "--maintain", retention_raw_days=0)
    assert (done.returncode, "put off" in done.stdout) == (0, False), done.stderr
    assert roled.one("SELECT count(*) FROM reading") == (twice,)
    with psycopg.connect(as_role(roled, OBSERVER)) as conn:
        assert conn.execute(maintain.SQL["duplicates_removed"]).fetchone() == (twice,)


@pytest.mark.parametrize("role", [WRITER, OBSERVER])
def test_check_and_status_work_as_a_service_does(roled, role):
    """Nothing that they ask the database is refused, and no right is missed."""
    settings = Settings(database_url=as_role(roled, role))
    assert [f for f in check_database.run(settings) if f.level is Level.FAIL] == []
    assert status.ask_database(settings).fault == ""


@pytest.mark.parametrize("storage", ["postgres"], indirect=True)
def test_without_roles_a_migration_grants_nothing(database):
    """They belong to the whole server: those of another database get no rights here."""
    with connect(database.url) as conn:
        assert roles.renew(conn) == []
    assert database.one("SELECT count(*) FROM pg_namespace WHERE nspname = 'city'") == (0,)


@pytest.mark.parametrize("storage", ["postgres"], indirect=True)
def test_the_command_takes_passwords_from_files(database, tmp_path):
    """A file for each role; the server gets hashes, and a role without a file keeps what it has."""
    (tmp_path / WRITER).write_text("geheim 密码\n")
    arguments = ["--roles", "--password-dir", str(tmp_path), "--city-reader", str(CITY)]
    done = migrate_command(database.url, *arguments)
    assert done.returncode == 0, done.stderr
    assert f"{WRITER}: " in done.stdout and "geheim" not in done.stdout
    assert is_password(database, WRITER, "geheim 密码")
    (tmp_path / WRITER).unlink()
    assert f"{WRITER}: there, password as it was" in migrate_command(database.url, *arguments).stdout
    assert is_password(database, WRITER, "geheim 密码")


def migrate_command(url, *arguments, **settings):
    return subprocess.run([sys.executable, "-m", "ingest.cli", "migrate", *arguments], capture_output=True, text=True,
                          env=environment(database_url=url, **settings), check=False, timeout=60)  # fmt: skip


def is_password(database, role, password):
    """Whether the server's verifier was made of this password (RFC 5802, section 3)."""
    (verifier,) = database.one("SELECT rolpassword FROM pg_authid WHERE rolname = %s", role)
    method, rounds, salt, stored, _ = re.fullmatch(r"([^$]+)\$(\d+):([^$]+)\$([^:]+):(.+)", verifier).groups()
    assert method == "SCRAM-SHA-256"
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), base64.b64decode(salt), int(rounds))
    client = hmac.digest(salted, b"Client Key", "sha256")
    return hashlib.sha256(client).digest() == base64.b64decode(stored)


@pytest.mark.parametrize(
    ("cities", "files", "says"),
    [
        ([370000], {}, "370000 has no reader"),
        ([370176], {}, "370176 has no reader"),
        ([999999], {}, "999999 has no reader"),
        ([], {WRITER: " \n"}, "is empty"),
        ([], {WRITER: b"\xff"}, "can't be read"),
    ],
)
@pytest.mark.parametrize("storage", ["postgres"], indirect=True)
def test_what_cannot_be_is_refused_before_anything_changes(database, tmp_path, cities, files, says):
    """No role, no right and no password is touched."""
    for name, text in files.items():
        (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(migrate.SchemaError, match=says):
        make(database, cities, tmp_path)
    assert database.one("SELECT tableowner FROM pg_tables WHERE tablename = 'reading'") == ("postgres",)


@pytest.mark.parametrize("storage", ["postgres"], indirect=True)
def test_only_a_superuser_makes_roles(roled):
    """The owner is told so."""
    done = migrate_command(as_role(roled, OWNER), "--roles")
    assert (done.returncode, "superuser" in done.stderr) == (1, True)
