"""Several workers on one machine: a process each, started again when one dies, drained together."""

import asyncio
import contextlib
import signal
import sys
from pathlib import Path

import structlog

from ingest.settings import Settings, SettingsError

log = structlog.get_logger()
PAUSE_SECONDS = 2.0
"""Between the end of a worker and its next start, so that a fault at start does not spin."""
SETTINGS_WRONG = 2


def run(settings: Settings, count: int, config: Path | None) -> int:
    """`count` workers until SIGTERM or SIGINT; answers the exit code. Raises `SettingsError`."""
    if not settings.share_group:
        raise SettingsError(
            "several workers would each get every message: set GANZHI_SHARE_GROUP, or start one "
            "`ganzhi ingest --worker N` for each set of GANZHI_TOPICS that do not overlap"
        )
    return asyncio.run(_supervise(count, config))


async def _supervise(count: int, config: Path | None) -> int:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    codes = await asyncio.gather(*(_keep(worker, config, stop) for worker in range(count)))
    return 1 if any(code not in {0, SETTINGS_WRONG} for code in codes) else max(codes)


async def _keep(worker: int, config: Path | None, stop: asyncio.Event) -> int:
    """One worker, started again until `stop`; wrong settings end it for good."""
    command = [sys.executable, "-m", "ingest.cli", "ingest", "--worker", str(worker)]
    command += ["--config", str(config)] if config else []
    while True:
        # A group of its own: Ctrl-C reaches the supervisor alone, which then drains every worker once.
        process = await asyncio.create_subprocess_exec(*command, start_new_session=True)
        stopping = asyncio.create_task(stop.wait())
        ending = asyncio.create_task(process.wait())
        await asyncio.wait({stopping, ending}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if stop.is_set() and process.returncode is None:
            process.send_signal(signal.SIGTERM)
        code = await ending
        if stop.is_set() or code == SETTINGS_WRONG:
            stop.set()
            return code
        log.error("worker_ended", worker=worker, exit_code=code, retry_in_seconds=PAUSE_SECONDS)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), PAUSE_SECONDS)
            return 0
