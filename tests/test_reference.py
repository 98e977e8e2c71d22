"""The reference in docs/ is what the code says, and the code says something about everything."""

import pytest

from ingest.connection import connect
from ingest.settings import Settings
from tests.reference import DOCS, TABLES, pages, tables_page


@pytest.fixture(scope="module")
def made():
    return pages()


@pytest.mark.parametrize("file", ["settings.md", "metrics.md", "tables.md"])
def test_pages_are_up_to_date(made, file):
    """A page that is older than the code is made again by `make docs`."""
    assert (DOCS / file).read_text(encoding="utf-8") == made[file], "stale: run make docs"


def test_every_setting_is_described():
    """No setting without a sentence on what it does."""
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


@pytest.mark.parametrize("storage", [pytest.param("timescale", marks=pytest.mark.timescale)])
def test_both_storages_have_the_same_tables(made, database):
    """TimescaleDB shows the same tables, columns and comments as plain PostgreSQL, and no table without one."""
    with connect(database.url) as conn:
        assert tables_page(conn) == made["tables.md"]
        assert [table for table, _, about, *_ in conn.execute(TABLES) if not about] == []
