"""`make faults`: runs the cases one after the other and writes docs/faults.md; goes on where it was stopped.

Each case is a process of its own with a time limit. Results and logs are in `.faults`, which is in no commit.
"""

import argparse
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from tests.brokers import mosquitto_version
from tests.faults.case import CASES, Case, load
from tests.faults.oracle import Verdict, judge
from tests.faults.stand import Stand

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".faults"
RESULTS = FOLDER / "results.jsonl"
PAGE = ROOT / "docs" / "faults.md"
GRACE_SECONDS = 60
"""For a case that is told to stop to end what it started."""
WIDTH = 140
"""Of the table in a file."""
COLUMNS = ("published", "stored", "duplicate", "rejected", "lost", "doubled", "recovery_seconds")
INTRODUCTION = """# Faults

Written by `make faults`. Real processes on one machine: Mosquitto, PostgreSQL, workers, our own TCP proxy between.
Gateways publish numbered readings; every message that the broker acknowledged with success is an obligation. After
the fault each of its readings is stored once, or refused once with its reason; nothing else is stored; the books of
every worker balance; its acknowledgements are those of the deliveries, in order, on every connection; a new reading is
visible within 30 s; memory is where it was. Mosquitto acknowledges before it writes to its disk: what it acknowledged
within 4 s before its own SIGKILL is no obligation.

Numbers are readings. Published counts obligations; stored and rejected may hold more, of messages whose
acknowledgement never came. Duplicate: known when they came again, since the workers last started. Recovery: from the
end of the fault to the first reading in the database that was published after it.

How fast memory grows in the soak is the slope of a line through its means over the last four times five minutes, told
with its 95 % interval. Five minutes is the time between two of the observer's snapshots, so that what comes and goes
with them is the same in each mean. The case passes if a growth of 15 MB/h is excluded; a single MiB that an allocator
takes half-way, and keeps, is 5 ± 8 MB/h.
"""
Result = dict[str, Any]


def main() -> None:
    options = argparse.ArgumentParser(prog="make faults", description=__doc__)
    options.add_argument("case", nargs="*", help="these cases only, also if they have run")
    options.add_argument("--fresh", action="store_true", help="forget what has run")
    options.add_argument("--list", action="store_true", help="the cases, and what they do")
    options.add_argument("--play", action="store_true", help=argparse.SUPPRESS)
    arguments = options.parse_args()
    cases = load()
    if unknown := set(arguments.case) - cases.keys():
        options.error(f"no such case: {', '.join(sorted(unknown))}; --list names them")
    if arguments.play:
        play(cases[arguments.case[0]])
    elif arguments.list:
        show_cases(_console())
    else:
        raise SystemExit(run(arguments.case, fresh=arguments.fresh))


def run(names: list[str], *, fresh: bool) -> int:
    """Run what is named, else what has no result yet; the exit code: 1 when a case failed."""
    if fresh:
        shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(exist_ok=True)
    done = results()
    due = [CASES[name] for name in names] or [case for case in CASES.values() if case.name not in done]
    console = _console()
    with _progress(console) as progress:
        for case in progress.track(due, description="faults"):
            progress.console.print(f"{case.name}: {case.play.__doc__}")
            result = run_apart(case)
            with RESULTS.open("a") as file:
                file.write(json.dumps(result) + "\n")
            for fault in result["faults"]:
                progress.console.print(f"{case.name}: {fault}", style="red", markup=False)
    done = results()
    if not due:
        console.print("Every case has run; `make faults FRESH=1` runs them again.")
    console.print(table(done.values()))
    PAGE.write_text(page(done))
    return int(any(result["faults"] for result in done.values()))


def run_apart(case: Case) -> Result:
    """The result of a case that ran in a process of its own."""
    folder = FOLDER / case.name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    result: Result = {"case": case.name, "date": f"{datetime.now(UTC):%Y-%m-%d}"} | asdict(Verdict())
    if case.missing:
        return result | {"skipped": case.missing}
    begun = time.monotonic()
    with (folder / "case.log").open("wb") as log:
        command = [sys.executable, "-m", "tests.faults", "--play", case.name]
        process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, start_new_session=True)
        with _ended(process):
            try:
                process.wait(2 * case.seconds + 60)
            except subprocess.TimeoutExpired:
                result["faults"] = [f"not done after {time.monotonic() - begun:.0f} s"]
    written = folder / "result.json"
    if written.exists():
        result |= json.loads(written.read_text())
    elif not result["faults"]:
        result["faults"] = [
            f"it broke off, see .faults/{case.name}/case.log: {_last_line(folder / 'case.log')}"
        ]
    return result | {"seconds": round(time.monotonic() - begun)}


@contextmanager
def _ended(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Afterwards the process and what it started are gone, also when somebody presses Ctrl-C."""
    try:
        yield
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def play(case: Case) -> None:
    """Play and judge a case in this process, and leave the result in its folder."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored, where the runner is in the background
    folder = FOLDER / case.name
    folder.mkdir(parents=True, exist_ok=True)
    with Stand(folder, **case.stand) as stand:
        versions = (
            f"Mosquitto {mosquitto_version()}, {stand.server.version}, Python {platform.python_version()}"
        )
        case.play(stand, case.size)
        verdict = judge(stand)
    (folder / "result.json").write_text(json.dumps(asdict(verdict) | {"versions": versions}))


def results() -> dict[str, Result]:
    """The last result of each case that there is and that has run, in the order of the cases."""
    lines = RESULTS.read_text().splitlines() if RESULTS.exists() else []
    last = {result["case"]: result for result in map(json.loads, lines)}
    return {name: last[name] for name in CASES if name in last}


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").split("\n")
    return next((line for line in reversed(lines) if line.strip()), "it said nothing")


def _console() -> Console:
    return Console(width=None if sys.stdout.isatty() else WIDTH)


def _progress(console: Console) -> Progress:
    return Progress(TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"),
                    TimeElapsedColumn(), console=console)  # fmt: skip


def show_cases(console: Console) -> None:
    """A line a case."""
    shown = Table("case", "seconds", "in make test", "what happens")
    for case in CASES.values():
        shown.add_row(case.name, str(case.seconds), "yes" if case.short else "", case.play.__doc__)
    console.print(shown)


def table(done: Iterable[Result]) -> Table:
    """The results, for a terminal."""
    shown = Table("case", *(name.removesuffix("_seconds") for name in COLUMNS), "")
    for result in done:
        shown.add_row(
            result["case"], *_cells(result), _remark(result), style="red" if result["faults"] else ""
        )
    return shown


def page(done: dict[str, Result]) -> str:
    """The results as docs/faults.md."""
    rows = [("case", *COLUMNS[:-1], "recovery, s", "")] + [
        (name, *_cells(result), _remark(result)) for name, result in done.items()
    ]
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    lines.insert(1, "|---|" + "---:|" * len(COLUMNS) + "---|")
    runs = sorted({f"{r['date']}: {r['versions']}" for r in done.values() if "versions" in r})
    cases = [f"- **{name}**: {case.play.__doc__} Size {case.size}." for name, case in CASES.items()]
    parts = [INTRODUCTION, "\n".join(lines), "Ran on\n" + "\n".join(f"- {run}" for run in runs), "## The cases",
             "\n".join(cases)]  # fmt: skip
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def _cells(result: Result) -> list[str]:
    return [""] * len(COLUMNS) if "skipped" in result else [f"{result[name]:,}" for name in COLUMNS]


def _remark(result: Result) -> str:
    if "skipped" in result:
        return f"skipped: {result['skipped']}"
    return "; ".join([*result["faults"], *result.get("notes", [])])


if __name__ == "__main__":
    main()
