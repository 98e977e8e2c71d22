"""`python -m tests.licences`: docs/licences.md, from what the installed packages say of themselves.

No versions, which change with every lock. Packages of other systems (Windows) are not installed here and not listed.
"""

import tomllib
from collections.abc import Iterable, Iterator
from importlib.metadata import metadata, requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/licences.md"
ALLOWED = frozenset({"0BSD", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "BSD-2-Clause", "BSD-3-Clause", "CC0-1.0",
                     "ISC", "MIT", "MIT-0", "PSF-2.0", "Zlib"})  # fmt: skip
"""Ask for no more than their text and names in a copy."""
EXCEPTIONS = {"psycopg": "LGPL-3.0-only", "psycopg-binary": "LGPL-3.0-only"}
"""Allowed for these packages alone; the page says why."""
READ = {"aiomqtt": "BSD-3-Clause", "jinja2": "BSD-3-Clause", "mqtt5": "BSD-3-Clause",
        "numba": "BSD-2-Clause"}  # fmt: skip
"""Read in their licence files: their metadata says BSD, and not which."""
SPOKEN = {"MIT License": "MIT", "ISC License": "ISC", "Apache Software License": "Apache-2.0"}
"""How metadata older than SPDX expressions (PEP 639) says it."""
HEAD = """# Licences of what we use

Made by `make docs` (`python -m tests.licences`) from the installed packages; a test holds it up to date, and every
licence against the list in `tests/licences.py`. Ganzhi itself is under Apache-2.0. Versions and hashes are in
`requirements.lock`, and in `build/sbom.json` (CycloneDX), which `make sbom` writes.

psycopg is LGPL-3.0: we import it as it is published, so our code stays under its own licence, and whoever has a copy
of ours can put another psycopg in its place (`pip install`), which is what that licence asks for. Its binary package
brings libpq (PostgreSQL Licence) and OpenSSL (Apache-2.0); the demo's brings PostgreSQL itself (PostgreSQL Licence).

Beside us run, as programs of their own, what `docker-compose.yml` names: Mosquitto (EPL-2.0 or BSD-3-Clause),
PostgreSQL, TimescaleDB (Apache-2.0; columnstore, continuous aggregates and policies under the Timescale License, which
lets one run them for oneself and not sell them as a database service), Prometheus (Apache-2.0), Grafana (AGPL-3.0,
unchanged).
"""


def used(requirements: Iterable[str]) -> set[str]:
    """Names of all packages that these requirements bring on this system, themselves included."""
    seen = set()
    waiting = [need for text in requirements if _applies(need := Requirement(text), ())]
    while waiting:
        asked = waiting.pop()
        key = canonicalize_name(asked.name), frozenset(asked.extras)
        if key not in seen:
            seen.add(key)
            needs = map(Requirement, requires(asked.name) or [])
            waiting += [need for need in needs if _applies(need, asked.extras)]
    return {name for name, _ in seen}


def _applies(need: Requirement, extras: Iterable[str]) -> bool:
    return need.marker is None or any(need.marker.evaluate({"extra": extra}) for extra in (*extras, ""))


def licence(name: str) -> str:
    """A package's licence as an SPDX expression. Raises `ValueError` where its metadata doesn't say."""
    about = metadata(name)
    said = [
        line.split(" :: ")[-1] for line in about.get_all("Classifier") or [] if line.startswith("License ::")
    ]
    short = about["License"] if "\n" not in (about["License"] or "\n") else None
    if found := READ.get(name) or about["License-Expression"] or SPOKEN.get(short or "", short):
        return str(found)
    if said and all(text in SPOKEN for text in said):
        return " OR ".join(sorted(SPOKEN[text] for text in said))
    raise ValueError(f"{name} does not say its licence ({said}): read it, and write it into READ")


def allowed(name: str, expression: str) -> bool:
    """Whether we may use it: of alternatives one is on the list, and of what holds together all are."""
    return EXCEPTIONS.get(name) == expression or all(
        any(choice in ALLOWED for choice in part.split(" OR ")) for part in expression.split(" AND ")
    )


def parts() -> dict[str, set[str]]:
    """Packages of the service, and what each extra adds."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    service = used(project["dependencies"])
    extras = project["optional-dependencies"]
    return {"service": service} | {extra: used(needs) - service for extra, needs in extras.items()}


def lines() -> Iterator[str]:
    yield HEAD
    for part, names in parts().items():
        yield f"## {'The service' if part == 'service' else f'The extra `{part}`'}\n"
        yield "| package | licence |\n|---|---|"
        yield "\n".join(f"| {name} | {licence(name)} |" for name in sorted(names)) + "\n"


def text() -> str:
    """The page."""
    return "\n".join(lines()).rstrip("\n") + "\n"


if __name__ == "__main__":
    PAGE.write_text(text())
