"""Cases by name: a function with a docstring in words, what it needs and how big it is."""

import os
import pkgutil
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from tests.faults.stand import Stand

Play = Callable[[Stand, int], None]


@dataclass(frozen=True)
class Case:
    """`play(stand, size)` brings a fault about and heals it; then the stand is judged."""

    name: str
    play: Play
    seconds: int
    """About how long it takes; it is stopped after twice that and a minute."""
    size: int
    """How often, or for how many seconds, as the case says."""
    short: int
    """Its size in `make test`; 0: not there."""
    root: bool
    program: str
    """That it needs, of the Debian package of this name; empty for none."""
    stand: dict[str, Any] = field(default_factory=dict)
    """Arguments of `Stand`."""

    @property
    def missing(self) -> str:
        """What it needs and this machine does not have; empty when it can run."""
        if self.root and os.geteuid():
            return "needs root"
        if self.program and not shutil.which(self.program):
            return f"needs {self.program}: apt install it"
        return ""


CASES: dict[str, Case] = {}


def case(
    seconds: int, *, size: int = 1, short: int = 0, root: bool = False, program: str = "", **stand: Any
) -> Callable[[Play], Play]:
    """Register a case under the function's name. See `Case`."""

    def register(play: Play) -> Play:
        name = play.__name__.replace("_", "-")
        CASES[name] = Case(name, play, seconds, size, short, root, program, stand)
        return play

    return register


def load() -> dict[str, Case]:
    """All cases, of every module in `cases`."""
    folder = Path(__file__).parent / "cases"
    for module in sorted(m.name for m in pkgutil.iter_modules([str(folder)])):
        import_module(f"tests.faults.cases.{module}")
    return CASES
