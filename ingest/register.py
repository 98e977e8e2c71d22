"""Registers as files: the lines of CSV or Parquet as texts, one after the other, and the lines refused.

CSV is UTF-8, with or without a byte order mark, or GB 18030 as spreadsheets here write it. Memory does not
grow with the file.
"""

import csv
import importlib
import os
from codecs import getincrementaldecoder
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import Any

from ingest.terminal import CommandError

HEAD_BYTES = 65_536
"""Looked at to tell UTF-8 from GB 18030."""
CELL_CHARACTERS = 4_096
"""A quote that is never closed costs the lines within this many characters, not the rest of the file."""
BLOCK_ROWS = 20_000

Progress = Callable[[float], object]
"""Is told the share of the file that is done, 0 to 1."""
Line = tuple[int, Sequence[str]]
"""Number of the line in the file, the header's is 1, and its cells; no cells for what can't be read."""


def lines(path: Path, progress: Progress) -> Iterator[Line]:
    """The lines of a file, first the header. Raises `CommandError` for a file that can't be read."""
    try:
        yield from (_parquet if path.suffix.lower() in {".parquet", ".pq"} else _csv)(path, progress)
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror or error}") from None


def _csv(path: Path, progress: Progress) -> Iterator[Line]:
    size = max(1, path.stat().st_size)
    before = csv.field_size_limit(CELL_CHARACTERS)
    try:
        with (
            path.open("rb") as raw,
            TextIOWrapper(raw, _encoding(path), errors="surrogateescape", newline="") as file,
        ):
            reader = csv.reader(file)
            number = 0
            while True:
                number += 1
                try:
                    cells = next(reader)
                except StopIteration:
                    return
                except csv.Error:
                    yield reader.line_num, []
                    continue
                if cells:
                    yield reader.line_num, cells
                if number % BLOCK_ROWS == 0:
                    progress(raw.tell() / size)
    finally:
        csv.field_size_limit(before)


def _encoding(path: Path) -> str:
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    try:
        getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return "gb18030"
    return "utf-8-sig"


def _parquet(path: Path, progress: Progress) -> Iterator[Line]:
    try:
        arrow, files = importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise CommandError(f"{path}: Parquet needs pyarrow ({error}): pip install 'ganzhi[parquet]', or take CSV"
                           ) from None  # fmt: skip
    try:
        with files.ParquetFile(path) as file:
            yield 1, file.schema_arrow.names
            number, total = 1, max(1, file.metadata.num_rows)
            for block in file.iter_batches(BLOCK_ROWS):
                columns = [_texts(arrow, column) for column in block.columns]
                for cells in zip(*columns, strict=True):
                    number += 1
                    yield number, cells
                progress(number / total)
    except arrow.ArrowException as error:
        raise CommandError(f"{path}: no Parquet that can be read: {error}") from None


def _texts(arrow: Any, column: Any) -> list[str]:
    if arrow.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if arrow.types.is_duration(column.type):
        column = column.cast(arrow.duration("s"), safe=False).cast(arrow.int64())
    texts: list[str] = column.cast(arrow.string()).fill_null("").to_pylist()
    return texts


class Refused:
    """The file of refused lines beside a register: its columns, and before them line and reason.

    It is made with the first refusal; one that an earlier import left is taken away.
    """

    def __init__(self, path: Path, header: Sequence[str]) -> None:
        self.path = path.with_name(f"{path.stem}.refused.csv")
        self.count = 0
        self._header = header
        self._file: Any = None
        self._old = self.path.exists()

    def add(self, line: int, reason: str, cells: Sequence[str]) -> None:
        """Write down a refused line."""
        if self._file is None:
            self._file = self.path.open("w", encoding="utf-8", errors="replace", newline="")
            self._writer = csv.writer(self._file)
            self._writer.writerow(["line", "reason", *self._header])
        self._writer.writerow([line, reason, *(cells or ["(not readable as CSV)"])])
        self.count += 1

    def close(self) -> None:
        """All is written."""
        if self._file:
            self._file.close()
        elif self._old:
            self.path.unlink(missing_ok=True)


@contextmanager
def refused(path: Path, header: Sequence[str]) -> Iterator[Refused]:
    """A file of refused lines for as long as an import lasts. Raises `CommandError` where none can be written."""
    file = Refused(path, header)
    if not os.access(path.parent, os.W_OK):
        raise CommandError(
            f"{path.parent}: refused lines are written beside the file, and nothing can be written there"
        )
    try:
        yield file
    finally:
        file.close()
