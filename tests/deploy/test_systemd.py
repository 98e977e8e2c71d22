"""The systemd units of deploy/systemd, judged by systemd-analyze in a root folder of their own; nothing is started."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import typer
import yaml

from ingest.cli import app
from ingest.settings import Settings

ROOT = Path(__file__).parents[2]
UNITS = ROOT / "deploy/systemd"
SERVICES = sorted(path.name for path in UNITS.glob("*.service"))
SYSTEM = Path("/usr/lib/systemd/system")
"""What our units stand beside: network-online.target and the like."""
EXPOSURE_TENTHS = 30
needs_systemd = pytest.mark.skipif(
    not (shutil.which("systemd-analyze") and SYSTEM.is_dir()),
    reason="needs systemd-analyze: apt install systemd",
)


def values(unit, key):
    """What a unit's file says of a key, in order."""
    return re.findall(rf"^{key}=(.*)$", (UNITS / unit).read_text(), re.MULTILINE)


def instance(unit):
    return unit.replace("@.", "@0.")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A root folder where the units are installed as deploy/systemd/README.md says, with a program to start."""
    root = tmp_path_factory.mktemp("root")
    shutil.copytree(SYSTEM, root / SYSTEM.relative_to("/"), symlinks=True)
    shutil.copytree(UNITS, root / "etc/systemd/system")
    program = root / "opt/ganzhi/bin/ganzhi"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    return root


def analyze(root, *arguments):
    return subprocess.run(["systemd-analyze", f"--root={root}", *arguments], capture_output=True, text=True,
                          check=False, timeout=30)  # fmt: skip


@needs_systemd
def test_systemd_understands_every_line(root):
    """Verification finds no unknown key, no missing program and no missing unit."""
    done = analyze(root, "verify", *map(instance, SERVICES), "ganzhi-maintain.timer")
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@needs_systemd
@pytest.mark.parametrize("unit", SERVICES)
def test_exposure_is_low(root, unit):
    """Systemd rates every service, with the lines that they share, below 3.0 of 10."""
    done = analyze(root, "security", "--offline=yes", f"--threshold={EXPOSURE_TENTHS}", instance(unit))
    assert done.returncode == 0, done.stdout
    (exposure,) = re.findall(r"Overall exposure level .*: ([\d.]+)", done.stdout)
    assert float(exposure) < EXPOSURE_TENTHS / 10


@needs_systemd
def test_the_shared_lines_are_what_lowers_it(root, tmp_path):
    """Without the folder that every service shares the same services are rated too exposed."""
    bare = tmp_path / "root"
    shutil.copytree(root, bare, symlinks=True)
    shutil.rmtree(bare / "etc/systemd/system/ganzhi-.service.d")
    done = analyze(
        bare, "security", "--offline=yes", f"--threshold={EXPOSURE_TENTHS}", "ganzhi-observe.service"
    )
    assert done.returncode != 0


@pytest.mark.parametrize("unit", SERVICES)
def test_secrets_come_as_credentials(unit):
    """A unit sets only GANZHI_..._FILE settings, each to a credential, which is a secret that deploy/ makes."""
    made = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["secrets"]
    known = {f"GANZHI_{field.upper()}_FILE" for field in Settings.model_fields}
    files = dict(pair.split("=") for line in values(unit, "Environment") for pair in line.split())
    credentials = dict(line.split(":") for line in values(unit, "LoadCredential"))
    assert files.keys() <= known
    assert sorted(files.values()) == sorted(f"%d/{name}" for name in credentials)
    for path in map(Path, credentials.values()):
        assert path.parent == Path("/etc/ganzhi/secrets")
        assert path.name in made


@pytest.mark.parametrize("unit", SERVICES)
def test_the_command_exists(unit):
    """What is started is a command of ganzhi with options that it has."""
    (line,) = values(unit, "ExecStart")
    program, name, *options = line.replace("%i", "0").split()
    assert program == "/opt/ganzhi/bin/ganzhi"
    typer.main.get_command(app).commands[name].make_context(name, options)


@pytest.mark.parametrize("unit", SERVICES)
def test_limits_of_memory_and_of_the_time_to_stop(unit):
    """Each has a limit of memory, and more time to stop than a drain takes."""
    assert re.fullmatch(r"\d+G", *values(unit, "MemoryMax"))
    (stop,) = values(unit, "TimeoutStopSec")
    assert stop == "infinity" or int(stop) > 30
