"""A real `ganzhi ingest` or `observe` as a subprocess: started, killed, drained, started again; metrics and books.

A context manager for tests only. Each life has metrics of its own; the log goes on over all of them, and
is shown when a wait fails.
"""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Self

from prometheus_client.parser import text_string_to_metric_families

from tests.brokers import free_port

PATIENCE_SECONDS = 60
"""For whatever is waited for; generous, as a busy machine is no fault of the service."""
DRAIN_SECONDS = 30
"""What SIGTERM may take (contract, section 7)."""
ACCOUNTS = ("committed_total", "duplicate_total", "rejected_total", "in_flight")


class Metrics(dict[tuple[str, tuple[str, ...]], float]):
    """One scrape: values by name and label values. Empty when the worker did not answer."""

    def __call__(self, name: str, *labels: str) -> float:
        """The metric with these label values, or the sum over all of its series where none are given."""
        if labels:
            return self.get((f"ganzhi_{name}", labels), 0)
        return sum(value for (found, _), value in self.items() if found == f"ganzhi_{name}")

    def books(self, what: str) -> tuple[float, float]:
        """Received, and what the other accounts add up to: equal at all times (promise 5)."""
        return self(f"{what}_received_total"), sum(self(f"{what}_{account}") for account in ACCOUNTS)

    def assert_balanced(self) -> None:
        """Both books balance; for a scrape that was answered."""
        assert self, "the worker did not answer"
        for what in ("messages", "readings"):
            received, accounted = self.books(what)
            assert received == accounted, f"{what}: {received} received, {accounted} accounted for"


class Worker:
    """`ganzhi ingest` with these settings (names of the contract in lower case, without the prefix), or `observe`."""

    def __init__(self, log_file: Path, command: str = "ingest", **settings: object) -> None:
        self.port = free_port()
        self._log_file = log_file
        self._command = command
        port = "observer_http_port" if command == "observe" else "http_port"
        self._settings = settings | {port: self.port}
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process:
            self._process.kill()
            self._process.wait()

    @property
    def log(self) -> list[dict[str, object]]:
        """What it said on standard error, as far as it is JSON."""
        lines = self._log_file.read_text(errors="replace").splitlines()
        return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]

    def start(self) -> None:
        """Start without waiting."""
        with self._log_file.open("ab") as log:
            self._process = subprocess.Popen([sys.executable, "-m", "ingest.cli", *self._command.split()],
                                             env=environment(**self._settings), stdout=log, stderr=log)  # fmt: skip

    def wait_ready(self) -> Metrics:
        """Wait until broker and database are there and every subscription is granted."""
        return self.wait(lambda m: m("broker_connected") == 1 and m("database_up") == 1, "ready")

    def wait(self, done: Callable[[Metrics], object], what: str) -> Metrics:
        """Scrape until `done`; the scrape that was. Fails with the log when the worker ends before."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not (metrics := self.metrics()) or not done(metrics):
            assert self.alive, f"the worker ended before it was {what}; {self._story()}"
            assert time.monotonic() < deadline, f"the worker is not {what}; {self._story()}"
            time.sleep(0.02)
        return metrics

    def metrics(self) -> Metrics:
        """One scrape; nothing while it is refused (503), as everybody's may be when many scrape at once."""
        status, text = self.get("metrics")
        return Metrics({
            (sample.name, tuple(sample.labels.values())): sample.value
            for family in text_string_to_metric_families(text if status == 200 else "")
            for sample in family.samples
        })  # fmt: skip

    def get(self, path: str) -> tuple[int, str]:
        """Status and body of an HTTP GET; 0 and nothing while nobody listens."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/{path}", timeout=30) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self._process.poll() is None

    def memory_bytes(self) -> int:
        """What it has in memory now, on Linux."""
        assert self._process
        return int(Path(f"/proc/{self._process.pid}/statm").read_text().split()[1]) * os.sysconf(
            "SC_PAGE_SIZE"
        )

    def peak_bytes(self) -> int:
        """The most that it had in memory in this life, on Linux."""
        assert self._process
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) * 1024

    def descriptors(self) -> int:
        """How many files and sockets it has open, on Linux."""
        assert self._process
        return len(list(Path(f"/proc/{self._process.pid}/fd").iterdir()))

    def threads(self) -> int:
        """How many threads it has, on Linux."""
        assert self._process
        return len(list(Path(f"/proc/{self._process.pid}/task").iterdir()))

    def kill(self) -> None:
        """SIGKILL: it can do nothing about it."""
        assert self.alive, f"the worker ended by itself; {self._story()}"
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """SIGKILL, and start again at once."""
        self.kill()
        self.start()

    def terminate(self) -> int:
        """SIGTERM; the exit code. Fails with the log when it drains for longer than is promised."""
        assert self.alive, f"the worker ended by itself; {self._story()}"
        return self._end(signal.SIGTERM)

    def _end(self, how: signal.Signals) -> int:
        assert self._process
        self._process.send_signal(how)
        try:
            return self._process.wait(DRAIN_SECONDS)
        except subprocess.TimeoutExpired:
            raise AssertionError(
                f"{how.name} did not end the worker within {DRAIN_SECONDS} s; {self._story()}"
            ) from None

    def _story(self) -> str:
        return "its log ends:\n" + self._log_file.read_text(errors="replace")[-4000:]


def environment(**settings: object) -> dict[str, str]:
    """The environment of a `ganzhi` command: these settings and no others."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("GANZHI_")}
    return inherited | {f"GANZHI_{name.upper()}": str(value) for name, value in settings.items()}
