"""Connections to the database: how they are made, with limits of time, and broken off when the server hangs."""

import contextlib
import os
import socket
from collections.abc import Callable
from typing import Any

import psycopg
from psycopg import Connection
from psycopg.conninfo import make_conninfo

from ingest import copy

APPLICATION = "ganzhi"
SESSION = {
    "statement_timeout": "60s",
    "lock_timeout": "20s",
    "idle_in_transaction_session_timeout": "60s",
    "jit": "off",
    "timezone": "UTC",
}
"""A worker that hangs holds keys that others wait for; none of it may last."""
CONNECT_SECONDS = 10
ALIVE = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3, "tcp_user_timeout": 30_000}
"""A server that vanished without a word is given up after 30 s (libpq: seconds, but for the last)."""


def connect(
    url: str,
    *,
    application: str = APPLICATION,
    patient: bool = False,
    made: Callable[[Connection[Any]], object] = lambda _: None,
) -> Connection[Any]:
    """A connection as the writer needs it; `patient`: without time limits, for migrations and their locks.

    `made` gets it before anything is asked on it, which may wait for ever.
    Raises `psycopg.OperationalError` when the server is out of reach.
    """
    info = make_conninfo(url, connect_timeout=CONNECT_SECONDS, application_name=application, **ALIVE)
    conn = psycopg.connect(info, autocommit=True)
    made(conn)
    for name, value in SESSION.items():
        if not (patient and name.endswith("_timeout")):
            conn.execute("SELECT set_config(%s, %s, false)", [name, value])
    copy.register(conn)
    return conn


def break_off(conn: Connection[Any]) -> None:
    """End a connection under the thread that waits for its server; there it is an error. From any thread.

    A server that hangs while its kernel answers keeps a connection for ever: no time limit of TCP ends it, and
    those of statements are the server's own.
    """
    with (
        contextlib.suppress(OSError, psycopg.OperationalError),  # closed meanwhile: that was the aim
        socket.socket(fileno=os.dup(conn.fileno())) as same,
    ):
        same.shutdown(socket.SHUT_RDWR)
