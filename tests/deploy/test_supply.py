"""The supply chain: what is locked, what it is licensed under, and how findings of pip-audit are told."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests import audit, licences

ROOT = Path(__file__).parents[2]
PIN = re.compile(r"^([a-z0-9.-]+)==(\S+)", re.MULTILINE)
ADDRESS = re.compile(r"https?://|--(extra-)?index-url|--find-links")


def pins(lock):
    return set(PIN.findall((ROOT / lock).read_text()))


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-dev.lock"])
def test_every_pin_has_its_hashes_and_no_address(lock):
    """A lock names versions and hashes, and nowhere to get them from."""
    text = (ROOT / lock).read_text()
    assert not ADDRESS.search(text)
    blocks = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)[1:]
    assert len(blocks) == len(pins(lock))
    assert all("--hash=sha256:" in block for block in blocks)


def test_what_ships_is_what_is_tested():
    """Every pin of the service is a pin of the environment that checks and tests run in, and so is audited."""
    assert pins("requirements.lock") <= pins("requirements-dev.lock")


def test_the_page_of_licences_is_up_to_date():
    """docs/licences.md is what `make docs` would write."""
    assert licences.PAGE.read_text() == licences.text(), "run make docs"


def test_licences_are_on_the_list():
    """Nothing that ships asks for more than the list allows, and no exception is left of what went."""
    used = {name: licences.licence(name) for names in licences.parts().values() for name in names}
    assert {name: said for name, said in used.items() if not licences.allowed(name, said)} == {}
    assert licences.EXCEPTIONS.items() <= used.items()


@pytest.mark.parametrize(
    ("expression", "may"),
    [
        ("MIT", True),
        ("EPL-2.0 OR BSD-3-Clause", True),
        ("BSD-3-Clause AND Zlib", True),
        ("MIT AND GPL-3.0-only", False),
        ("AGPL-3.0-only", False),
        ("LGPL-3.0-only", False),
    ],
)
def test_a_licence_is_allowed_as_a_whole(expression, may):
    """Of alternatives one suffices; of what holds together nothing may be missing."""
    assert licences.allowed("some-package", expression) is may


VULN = {"id": "PYSEC-2026-1", "fix_versions": ["1.1"], "description": "reads a file that it should not"}
FINE = {"name": "a", "version": "1", "vulns": []}
FOUND = {"name": "b", "version": "1", "vulns": [VULN]}
UNKNOWN = {"name": "c", "skip_reason": "not found"}


def answer(*packages):
    return json.dumps({"dependencies": list(packages), "fixes": []})


@pytest.mark.parametrize(
    ("answered", "complaint", "code", "says"),
    [
        (answer(FINE), "", 0, "no known vulnerability in 1 packages"),
        (answer(FINE, FOUND), "", 1, "b 1: PYSEC-2026-1, fixed in 1.1: reads a file"),
        (answer(UNKNOWN), "", 0, "pip-audit skipped: "),
        (answer(FINE, UNKNOWN), "", 0, "no answer about c"),
        ("", "ERROR: Could not connect to PyPI's vulnerability feed\nTip: ...", 0, "pip-audit skipped: "),
        ("", "Traceback\nrequests.exceptions.ConnectionError: no route", 0, "pip-audit skipped: "),
        ("", "ERROR: invalid requirements input", 1, "pip-audit failed: ERROR: invalid"),
    ],
)  # fmt: skip
def test_the_audit_fails_for_what_it_found_only(answered, complaint, code, says):
    """A vulnerability, or a fault of ours, fails with words; no answer at all is one line and a success."""
    got, lines = audit.verdict(1, answered, complaint)
    assert got == code
    assert says in "\n".join(lines)


def test_the_audit_without_a_network(tmp_path):
    """pip-audit itself, sent to a proxy that is not there, ends in what the verdict calls skipped."""
    proxy = dict.fromkeys(("HTTPS_PROXY", "https_proxy"), "http://127.0.0.1:9")
    lock = tmp_path / "one.lock"
    lock.write_text(f"idna==3.11 --hash=sha256:{'0' * 64}\n")
    line = [*audit.command(lock), f"--cache-dir={tmp_path / 'cache'}"]
    done = subprocess.run(line, env=proxy, capture_output=True, text=True, check=False, timeout=60)
    code, (said,) = audit.verdict(done.returncode, done.stdout, done.stderr)
    assert code == 0
    assert said.startswith("pip-audit skipped: requests.exceptions.")


def test_what_is_ignored_has_a_reason_and_is_told_to_pip_audit(tmp_path):
    """Each vulnerability that is left out stands with a sentence why."""
    assert all(len(reason.split()) > 3 for reason in audit.ignored().values())
    other = tmp_path / "pyproject.toml"
    other.write_text('[tool.ganzhi.audit]\nPYSEC-2026-1 = "we never call what it is about"\n')
    line = audit.command(Path("lock"), audit.ignored(other))
    assert line[0] == sys.executable
    assert line[-1] == "--ignore-vuln=PYSEC-2026-1"
