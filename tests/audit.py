"""`python -m tests.audit`: known vulnerabilities in what the lock files name, asked of PyPI's advisories by pip-audit.

Without the advisories, as on a network that has no way out, it says so in one line and succeeds: `make check` works
anywhere. A vulnerability that cannot touch us stands in `[tool.ganzhi.audit]` of pyproject.toml, with the reason.
"""

import json
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
LOCK = "requirements-dev.lock"
"""What ships, and what builds and tests it; `requirements.lock` is a part of it."""
ANSWER_SECONDS, TOTAL_SECONDS = 5, 60
"""For one answer, and for all of them: pip-audit asks once for each package."""
UNREACHABLE = ("Could not connect", "requests.exceptions.")
"""What pip-audit complains of where nobody answers; but for time that runs out it lets the library's errors through."""


def ignored(pyproject: Path = ROOT / "pyproject.toml") -> dict[str, str]:
    """Vulnerabilities that are left out, and why."""
    tool = tomllib.loads(pyproject.read_text())["tool"]
    return dict(tool.get("ganzhi", {}).get("audit", {}))


def command(lock: Path, ignore: Iterable[str] = ()) -> list[str]:
    """What asks about every pin of a lock file, without resolving or installing anything."""
    return [sys.executable, "-m", "pip_audit", "--requirement", str(lock), "--disable-pip", "--require-hashes",
            "--format", "json", "--progress-spinner", "off", "--timeout", str(ANSWER_SECONDS),
            *(f"--ignore-vuln={name}" for name in ignore)]  # fmt: skip


def verdict(code: int, answer: str, complaint: str) -> tuple[int, list[str]]:
    """Exit code and lines to say, from pip-audit's exit code and what it wrote on both its outputs."""
    if not answer.strip():
        last = (complaint.strip().splitlines() or ["no answer"])[-1][:200]
        lost = any(sign in complaint for sign in UNREACHABLE)
        return (0, [f"pip-audit skipped: {last}"]) if lost else (1, [f"pip-audit failed: {last}"])
    packages: list[dict[str, Any]] = json.loads(answer)["dependencies"]
    asked = [package for package in packages if "vulns" in package]
    found = [_told(package, vuln) for package in asked for vuln in package["vulns"]]
    if not asked:
        return 0, [f"pip-audit skipped: the advisory service answered about none of {len(packages)} packages"]
    unknown = [package["name"] for package in packages if "vulns" not in package]
    lines = [f"pip-audit: no answer about {', '.join(unknown)}"] if unknown else []
    if not found:
        return 0, [*lines, f"pip-audit: no known vulnerability in {len(asked)} packages"]
    advice = "raise the versions (pyproject.toml, make lock), or give a reason in [tool.ganzhi.audit]"
    return 1, [*lines, *found, f"pip-audit: {len(found)} known vulnerabilities; {advice}"]


def _told(package: dict[str, Any], vuln: dict[str, Any]) -> str:
    fixed = ", ".join(vuln["fix_versions"]) or "no version yet"
    return (
        f"{package['name']} {package['version']}: {vuln['id']}, fixed in {fixed}: {vuln['description'][:200]}"
    )


def main() -> int:
    """Ask, and say what came of it."""
    try:
        done = subprocess.run(command(ROOT / LOCK, ignored()), capture_output=True, text=True, check=False,
                              timeout=TOTAL_SECONDS)  # fmt: skip
        code, lines = verdict(done.returncode, done.stdout, done.stderr)
    except subprocess.TimeoutExpired:
        code, lines = 0, [f"pip-audit skipped: no answer within {TOTAL_SECONDS} s"]
    print("\n".join(lines))
    return code


if __name__ == "__main__":
    sys.exit(main())
