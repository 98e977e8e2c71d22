"""A child process that ends with its parent, however that ends.

Assumes a Unix with /bin/sh.
"""

import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

STOP_SECONDS = 30.0
"""As long as the service may take to drain."""


class Child:
    """A process in a session of its own that gets `stop_signal` when asked, or when this process is gone.

    A shell waits on a pipe from us; the pipe ends with us, even by SIGKILL. Output goes to `log`.
    """

    def __init__(
        self,
        command: Sequence[str | Path],
        *,
        log: Path,
        stop_signal: signal.Signals = signal.SIGTERM,
        env: dict[str, str] | None = None,
        identity: dict[str, Any] | None = None,
        pass_fds: Sequence[int] = (),
    ) -> None:
        self.log = log
        self._stop_signal = stop_signal
        with log.open("wb") as output:
            self.process = subprocess.Popen(  # noqa: S603 - our own commands
                [str(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=env,
                pass_fds=pass_fds,
                cwd="/",
                **(identity or {}),
            )
        self._watcher = subprocess.Popen(  # noqa: S603
            ["/bin/sh", "-c", 'read _; kill "-$1" "$2"', "sh", str(int(stop_signal)), str(self.process.pid)],
            stdin=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            **(identity or {}),
        )

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self.process.poll()

    def stop(self, timeout_seconds: float = STOP_SECONDS) -> int:
        """Ask it to stop, kill it after the timeout, and say its exit code (negative: the signal)."""
        if self.process.poll() is None:
            self.process.send_signal(self._stop_signal)
        try:
            self.process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._watcher.kill()
        self._watcher.communicate()
        return self.process.returncode

    def last_words(self, lines: int = 8) -> str:
        """The end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
