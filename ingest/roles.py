"""The database's roles: owner, writer, observer, reader, and a reader for each city that asks for one.

What each may do is data in `schemas/sql/roles.sql`. Assumes a migrated database. Everything here may be
run again: roles that are there keep their passwords unless a file brings a new one.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, LiteralString

from psycopg import Connection, sql

from devices.division import DIVISIONS, today
from ingest.migrate import SchemaError
from schemas.sql import queries

SQL = queries("roles.sql")
LOGINS = ("ganzhi_owner", "ganzhi_writer", "ganzhi_observer", "ganzhi_reader")
CITY_GROUP = "ganzhi_city"
"""What all readers of cities have in common; nobody logs in as it."""


def make(conn: Connection[Any], password_dir: Path | None, cities: Iterable[int] = ()) -> list[str]:
    """Create what is missing, set passwords, rights and the cities' views; answers what was done, a line each.

    Rights and memberships of our roles that are not of `roles.sql` are taken back.

    `password_dir` holds a file for each role, named like it. Raises `SchemaError` when this is no superuser's
    connection, a division has no reader of its own, or a password can't be read; then nothing is changed.
    """
    readers = [_city_reader(code) for code in cities]
    passwords = {role: _password(password_dir, role) for role in (*LOGINS, *readers)}
    if not _value(conn, SQL["is_superuser"]):
        raise SchemaError(f"{conn.info.user} may not make roles: run ganzhi migrate --roles as a superuser")
    with conn.transaction():
        conn.execute(SQL["lock"])
        done = [*_create(conn, passwords), *_confine(conn)]
        for role in ("ganzhi_reader", *readers):
            _run(conn, SQL["reads_only"], role)
        for role in readers:
            _run(conn, SQL["city_reader"], role)
        for step in ("database", "functions"):
            conn.execute(SQL[step])
        _grant(conn)
    return done


def renew(conn: Connection[Any]) -> list[str]:
    """Own and grant what a migration brought, as a superuser or the owner; nothing where no roles were made."""
    if not _value(conn, SQL["in_use"]):
        return []
    with conn.transaction():
        conn.execute(SQL["lock"])
        if _value(conn, SQL["is_superuser"]):
            conn.execute(SQL["functions"])
        _grant(conn)
    return ["rights of the roles renewed"]


def _grant(conn: Connection[Any]) -> None:
    conn.execute(SQL["own"])
    for step in ("as_owner", "grants", "city_views", "as_before"):
        conn.execute(SQL[step])


def _create(conn: Connection[Any], passwords: dict[str, str | None]) -> Iterator[str]:
    for role in (CITY_GROUP, *passwords):
        there = _value(conn, SQL["role_exists"], role)
        if not there:
            _run(conn, SQL["create_role"], role)
        if role == CITY_GROUP:
            continue
        _run(conn, SQL["may_log_in"], role)
        if password := passwords[role]:
            _set_password(conn, role, password)
        yield f"{role}: {'there' if there else 'created'}, " + (
            "password set" if password else "password as it was" if there else "no password yet"
        )


def _confine(conn: Connection[Any]) -> Iterator[str]:
    """No role of ours is more than its grants: no attributes, no membership but a city's reader's."""
    ours = [role for (role,) in conn.execute(SQL["ours"])]
    for role in ours:
        _run(conn, SQL["nothing_special"], role)
    for role, others, grantor in conn.execute(SQL["strays"], [ours]).fetchall():
        _run(conn, SQL["leave"], role, others=others, granted_by=grantor)
        yield f"{role}: no longer a member of {others}"


def _set_password(conn: Connection[Any], role: str, password: str) -> None:
    """Hashed on this side: the server's log may show the statement."""
    verifier = conn.pgconn.encrypt_password(password.encode(), role.encode(), b"scram-sha-256").decode()
    conn.execute(sql.SQL(SQL["password"]).format(role=sql.Identifier(role), verifier=sql.Literal(verifier)))


def _password(folder: Path | None, role: str) -> str | None:
    file = folder / role if folder else None
    if file is None or not file.exists():
        return None
    try:
        password = file.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SchemaError(f"{file}: can't be read as a password: {error}") from None
    if not password:
        raise SchemaError(f"{file} is empty: write the password of {role} into it, or take it away")
    return password


def _city_reader(code: int) -> str:
    division = DIVISIONS.get(today(code) or 0)
    if division is None or division.level not in {"city", "county"}:
        raise SchemaError(f"{code} has no reader of its own: name a city or a county, such as 370100; "
                          "the province reads as ganzhi_reader")  # fmt: skip
    return f"ganzhi_reader_{division.code}"


def _run(conn: Connection[Any], statement: LiteralString, role: str, **names: str) -> None:
    identifiers = {name: sql.Identifier(value) for name, value in (names | {"role": role}).items()}
    conn.execute(sql.SQL(statement).format(**identifiers))


def _value(conn: Connection[Any], query: LiteralString, *arguments: str) -> Any:
    row = conn.execute(query, arguments).fetchone()
    return row and row[0]
