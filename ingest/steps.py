"""Steps of maintenance, each a transaction of its own: tried, told and noted one by one."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

import psycopg
from psycopg import Connection
from psycopg.errors import DeadlockDetected, LockNotAvailable, QueryCanceled

from schemas.sql import queries

SQL = queries("maintain.sql")
Tell = Callable[[str], object]


class Steps:
    """A connection on which they run; `tell` gets a line for each that changed something, or did not end."""

    def __init__(self, conn: Connection[Any], tell: Tell) -> None:
        self.conn = conn
        self.tell = tell
        self.failed: list[str] = []
        """Subjects of those that failed; what was put off is not among them."""

    def attempt(self, subject: str, step: Callable[[], object]) -> None:
        """A step that would hold others up is left to the next run; one that fails does not keep others from theirs."""
        try:
            step()
        except (LockNotAvailable, QueryCanceled, DeadlockDetected) as error:
            self.tell(f"{subject}: put off to the next run ({str(error).splitlines()[0]})")
        except psycopg.Error as error:
            if self.conn.closed:
                raise
            self.failed.append(subject)
            self.tell(f"{subject}: failed ({error.sqlstate}: {str(error).splitlines()[0]})")
        finally:
            if not self.conn.closed:
                self.conn.execute(SQL["limit_statement"], ["0"])

    def note(self, job: str, subject: str, rows: int, until: datetime | None = None, *sizes: int) -> None:
        """Keep and tell what was done: rows, if any, or bytes before and after."""
        if rows or sizes:
            self.conn.execute(SQL["note"], [job, subject, rows, until, *(sizes or (None, None))])
            change = f", {sizes[0]:,} to {sizes[1]:,} bytes" if sizes else f" {rows:,}"
            self.tell(f"{subject}: {job}{change}")

    def one(self, name: str, values: Any = None) -> tuple[Any, ...]:
        """The row that a statement of maintain.sql answers."""
        row: tuple[Any, ...] | None = self.conn.execute(SQL[name], values).fetchone()
        assert row is not None
        return row
