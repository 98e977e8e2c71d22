"""Where settings come from besides their variables, and how faults in them are told.

A fault is a `ValueError` whose text names the variable or the option. It shows no value of a secret, even where one
was put in place of its file's path.
"""

import os
import tomllib
from collections.abc import Collection
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from schemas.fault import faults

PREFIX = "GANZHI_"
SUFFIX = "_FILE"


def from_toml(config: Path) -> dict[str, Any]:
    """Values by setting, as the TOML file of `--config` has them."""
    try:
        return tomllib.loads(config.read_text())
    except OSError as error:
        raise ValueError(f"--config {config}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"--config {config}: not TOML: {error}") from None


def from_files(secrets: Collection[str]) -> dict[str, str]:
    """Values of `GANZHI_X_FILE` by setting, read and stripped."""
    names = [name for name in os.environ if name.startswith(PREFIX) and name.endswith(SUFFIX)]
    settings = [name.removeprefix(PREFIX).removesuffix(SUFFIX).lower() for name in names]
    return {
        setting: _read(name, secret=setting in secrets) for name, setting in zip(names, settings, strict=True)
    }


def _read(variable: str, *, secret: bool) -> str:
    """The text of the file that a variable names; whoever put the secret itself there does not see it again."""
    file = Path(os.environ[variable])
    where = variable if secret else f"{variable} {file}"
    try:
        return file.read_text().strip()
    except OSError as error:
        raise ValueError(f"{where}: {error.strerror}; it must be the path of a file") from None
    except UnicodeDecodeError:
        raise ValueError(f"{where}: the file holds no text (UTF-8)") from None


def refuse_unknown(settings: Collection[str]) -> None:
    """Refuses variables that begin like ours and set nothing: a slip of the pen would be believed to be set."""
    known = {PREFIX + name.upper() for name in settings}
    unknown = sorted(n for n in os.environ if n.startswith(PREFIX) and n.removesuffix(SUFFIX) not in known)
    if unknown:
        raise ValueError(f"no such setting: {', '.join(unknown)}; docs/settings.md lists them")


def explain(error: ValidationError) -> str:
    """One line a fault, with the variable it is about and without its value."""
    lines = []
    for where, what in faults(error):
        name = f"{PREFIX}{where.partition('.')[0].upper()}: " if where else ""
        lines.append(name + what)
    return "\n".join(lines)
