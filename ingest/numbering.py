"""Which messages came before by their gateways' own numbers, asked of the database and kept there.

Beyond the ledger's horizon this is what knows a message that comes again. Workers of a share group get messages of
the same gateways: so the rows are read without a lock, and written last in the transaction, merged in SQL. What two
workers write in the same moment is accepted twice, unless the ledger knows it.
"""

from collections import Counter
from collections.abc import Collection
from typing import Any

import numpy as np
from psycopg import Connection

from ingest import sequence
from ingest.batch import Batch
from ingest.sealed import Sealed
from ingest.sequence import Block, Seen
from schemas.sql import queries

SQL = queries("ingest.sql")


class Numbered:
    """The messages of a batch whose gateways number them, beside what the database has of those numbers."""

    def __init__(self, conn: Connection[Any], batch: Batch) -> None:
        self._conn = conn
        self._batch = batch
        self._numbers = sequence.numbers(batch)
        self._before = self._seen({number.block for number in self._numbers.values()})
        self.known = sequence.known(self._numbers, self._before)
        """Messages that came before, by their place in the batch."""

    def _seen(self, blocks: Collection[Block]) -> Seen:
        if not blocks:
            return {}
        columns = [list(column) for column in zip(*blocks, strict=True)]
        return sequence.seen(self._conn.execute(SQL["numbers_seen"], columns, binary=True))

    def keep(self, fresh: Sealed) -> Counter[str]:
        """Keep the numbers of what is stored now, in the caller's transaction.

        What was refused may come again, and pass once its cause is gone; the ledger knows refused parts as well, so
        that a part it knows shows nothing. Answers how many messages of each gateway came under a number that had
        brought something else.
        """
        if len(self._numbers) == len(self.known):
            return Counter()
        stored = np.unique(fresh.part_of_row).tolist()
        committed = {
            self._batch.message_of[part] for part in (*stored, *(event.part for event in fresh.events))
        }
        new = [number for n, number in self._numbers.items() if n in committed]
        if new:
            rows = [(*number.block, number.entry) for number in sequence.entries(new)]
            self._conn.execute(SQL["keep_numbers"], [list(column) for column in zip(*rows, strict=True)])
        return Counter(sequence.reused(new, self._before))
