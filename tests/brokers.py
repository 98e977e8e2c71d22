"""Real brokers as subprocesses on free ports: Mosquitto, and the embedded broker of the wheel `iotcore`.

Context managers, for tests only. Mosquitto is looked for in PATH and /usr/sbin; use `needs_mosquitto`.
"""

import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Self

import pytest
from iotcore import Broker

MOSQUITTO = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
needs_mosquitto = [
    pytest.mark.mosquitto,
    pytest.mark.skipif(
        not MOSQUITTO, reason="needs the mosquitto broker in PATH or /usr/sbin: apt install it"
    ),
]
START_SECONDS = 10
"""A broker with a large persistence file takes a moment."""


def free_port(count: int = 1) -> int:
    """A TCP port of 127.0.0.1 that nobody listens on; the first of so many, for workers that count on from it."""
    while True:
        with ExitStack() as stack:
            port = 0
            try:
                for _ in range(count):
                    sock = stack.enter_context(socket.socket())
                    sock.bind(("127.0.0.1", port + 1 if port else 0))
                    port = sock.getsockname()[1]
            except (OSError, OverflowError):
                continue
            return port - count + 1


def says(program: str, option: str, pattern: str) -> str:
    """What a program says of its version."""
    done = subprocess.run([program, option], capture_output=True, text=True, check=False)
    found = re.search(pattern, done.stdout + done.stderr)
    return found[1] if found else "of unknown version"


def mosquitto_version() -> str:
    """The version of the broker that is used."""
    return says(MOSQUITTO, "-h", r"mosquitto version (\S+)") if MOSQUITTO else "none"


def mosquitto_config(port: int, data_dir: Path) -> str:
    """The limits that keep promise 1: nothing dropped, sessions and queues on disk."""
    lines = [
        f"listener {port} 127.0.0.1",
        "allow_anonymous true",
        "max_inflight_messages 0",
        "max_queued_messages 0",
        "max_queued_bytes 0",
        "persistence true",
        f"persistence_location {data_dir}/",
        "autosave_interval 1",
        "autosave_on_changes false",
    ]
    if os.geteuid() == 0:
        lines.append("user root")  # else it becomes `mosquitto`, who may not write here
    return "\n".join(lines) + "\n"


class Mosquitto:
    """A Mosquitto on `port`, its files in `data_dir`; `config_text` replaces `mosquitto_config`."""

    def __init__(self, config_text: str | None, port: int, data_dir: Path) -> None:
        self.port = port
        self._data_dir = data_dir
        self._config_text = config_text or mosquitto_config(port, data_dir)
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def log(self) -> str:
        """What it wrote so far."""
        return (self._data_dir / "mosquitto.log").read_text(errors="replace")

    def start(self) -> None:
        """Start and wait until it listens; raises RuntimeError with its log when it does not."""
        assert MOSQUITTO
        config = self._data_dir / "mosquitto.conf"
        config.write_text(self._config_text)
        with (self._data_dir / "mosquitto.log").open("ab") as log:
            self._process = subprocess.Popen([MOSQUITTO, "-c", str(config)], stdout=log, stderr=log)
        deadline = time.monotonic() + START_SECONDS
        while not _listens(self.port):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"mosquitto does not listen on {self.port}:\n{self.log}")
            time.sleep(0.02)

    def stop(self) -> None:
        """SIGTERM: it saves its sessions and leaves."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL: it saves nothing."""
        self._end(signal.SIGKILL)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """SIGSTOP, and SIGCONT in the end: the kernel accepts connections meanwhile, and nobody answers."""
        assert self._process
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def add(self, config_text: str) -> None:
        """Start again, with these lines more in its configuration."""
        self.stop()
        self._config_text += config_text
        self.start()

    def reload(self) -> None:
        """SIGHUP: it reads its certificates anew, for connections to come."""
        assert self._process
        self._process.send_signal(signal.SIGHUP)

    def forget(self) -> None:
        """Remove what it saved; only while it is stopped."""
        (self._data_dir / "mosquitto.db").unlink(missing_ok=True)

    def _end(self, how: signal.Signals) -> None:
        if self._process:
            self._process.send_signal(how)
            self._process.wait(START_SECONDS)
            self._process = None


IOTCORE_LISTENER = """
[{version}.1]
name = "{version}"
listen = "127.0.0.1:{port}"
next_connection_delay_ms = 1
[{version}.1.connections]
connection_timeout_ms = 60000
max_payload_size = 2097152
max_inflight_count = 100
dynamic_filters = true
"""
IOTCORE_ROUTER = """
id = 0
[router]
id = 0
max_connections = 1000
max_outgoing_packet_count = 200
max_segment_size = 104857600
max_segment_count = 10
"""


class Iotcore:
    """The embedded broker, MQTT 5 on `port` and 3.1.1 on `port_311`; keeps nothing on disk."""

    def __init__(self, data_dir: Path) -> None:
        self.port, self.port_311 = free_port(), free_port()
        config = data_dir / "iotcore.toml"
        config.write_text(
            IOTCORE_ROUTER
            + IOTCORE_LISTENER.format(version="v4", port=self.port_311)
            + IOTCORE_LISTENER.format(version="v5", port=self.port)
        )
        self._broker = Broker(config_path=str(config))

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start with no session and no message, and wait until it listens."""
        self._broker.start()

    def stop(self) -> None:
        """Stop; every session is gone."""
        self._broker.stop()


def _listens(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0
