"""The ledger: which parts of a batch came before, asked and noted in one; and the clients it keeps them for.

Assumes the transaction that stores the batch: what it does not commit was not noted. Parts with a time are known by
their key; timeless ones by their client's packet id, a nonce and their key.
"""

from typing import Any

import numpy as np
from psycopg import Connection

from ingest import copy
from ingest.batch import Batch
from ingest.connection import connect
from ingest.sealed import Mask
from schemas.sql import queries

SQL = queries("ingest.sql")


def client_id(conn: Connection[Any], name: str) -> tuple[int, bool]:
    """The number that stands for a client's name, and whether the broker should have a session of it.

    It should where this client committed before, in whatever process, and its session was not ended since.
    """
    row = conn.execute(SQL["client_id"], {"name": name}).fetchone()
    assert row is not None
    return int(row[0]), bool(row[1])


def end_session(url: str, name: str) -> None:
    """Note that this client's session is ended on purpose. Raises psycopg.Error."""
    with connect(url) as conn:
        conn.execute(SQL["end_session"], [name])


def known(conn: Connection[Any], client: int, batch: Batch) -> Mask:
    """Which parts count already: in the ledger, earlier in this batch, or retained by the broker."""
    found = np.zeros(len(batch.digests), np.bool_)
    timed: dict[bytes, int] = {}
    timeless: dict[tuple[int, int], int] = {}
    retained = {n for n, message in enumerate(batch.messages) if message.retain}
    for part, (digest, number) in enumerate(zip(batch.digests, batch.message_of, strict=True)):
        if number in retained:
            found[part] = True
        elif part not in batch.nonces:
            found[part] = timed.setdefault(digest, part) != part
        elif (packet_id := batch.messages[number].packet_id) is not None:
            timeless[packet_id, part - batch.first_part[number]] = part
    if timed:
        _ask_timed(conn, client, timed, found)
    if timeless:
        _ask_timeless(conn, client, batch, timeless, found)
    return found


def _ask_timed(conn: Connection[Any], client: int, timed: dict[bytes, int], found: Mask) -> None:
    """`timed`: number of the part by its key."""
    keys = list(timed)
    row = conn.execute(SQL["ledger"], [copy.UuidArray.of(keys), client], binary=True).fetchone()
    for place in row[0] if row else ():
        found[timed[keys[place]]] = True


def _ask_timeless(
    conn: Connection[Any], client: int, batch: Batch, timeless: dict[tuple[int, int], int], found: Mask
) -> None:
    """`timeless`: number of the part by packet id and place in its message."""
    ids, parts = (list(column) for column in zip(*timeless, strict=True))
    digests = copy.UuidArray.of([batch.digests[n] for n in timeless.values()])
    nonces = copy.UuidArray.of([batch.nonces[n] for n in timeless.values()])
    again = [key[0] for key, n in timeless.items() if batch.messages[batch.message_of[n]].duplicate]
    new = conn.execute(SQL["ledger_timeless"], [client, ids, parts, digests, nonces, again]).fetchall()
    for key in timeless.keys() - set(new):
        found[timeless[key]] = True
