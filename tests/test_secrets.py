"""No secret shows anywhere: every command and service, with servers that answer, refuse or are away, is searched."""

import logging
import re
import shutil
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import structlog
from pydantic import SecretStr
from typer.main import get_command
from typer.testing import CliRunner

from ingest import check
from ingest.cli import app
from ingest.demo import without_password
from ingest.settings import SECRETS, Settings, SettingsError, load
from tests.brokers import Mosquitto, free_port, mosquitto_config, needs_mosquitto
from tests.worker import environment

ON_MOSQUITTO = pytest.mark.parametrize("storage", [pytest.param("postgres", marks=needs_mosquitto)])
MQTT, DATABASE = "hemlock-M", "hemlock-D"
SECRET = "hemlock"
"""In every secret below; in nothing else."""
PORTS = {"ingest": "http_port", "observe": "observer_http_port"}
TOKENS = {
    "http_token": "hemlock-http-token",
    "push_token": "ctwing=hemlock-push,iotda=hemlock-iotda",
    "onenet_token": "hemlock-onenet",
    "onenet_aes_key": f"hemlock{'A' * 36}",
}
AWAY = TOKENS | {
    "mqtt_url": f"mqtt://ganzhi:{MQTT}@127.0.0.1:1",
    "database_url": f"postgresql://ganzhi:{DATABASE}@127.0.0.1:1/ganzhi",
}
WRONG = [
    ("mqtt_url", f"http://u:{SECRET}@h"),
    ("mqtt_url", f"mqtt://u:{SECRET}/{SECRET}@h"),
    ("mqtt_url", f"mqtt://u:12/{SECRET}@h"),
    ("mqtt_url", f"mqtt://u:a#{SECRET}@h:1"),
    ("mqtt_url", f"mqtt://u:[{SECRET}@h"),
    ("mqtt_url", f"mqtt://u:\u2100{SECRET}@h"),
    ("mqtt_url", SECRET),
    ("database_url", f"postgresql://u:{SECRET}/x@h/db"),
    ("database_url", f"postgresql://u:12/{SECRET}@h/db"),
    ("database_url", f"postgresql://u:x@{SECRET}@h/db"),
    ("database_url", f"postgresql://u:%zz{SECRET}@h/db"),
    ("database_url", f"mysql://u:{SECRET}@h/db"),
    ("database_url", f"host=h password={SECRET} {SECRET}"),
    ("database_url", f"host=h {SECRET}=x"),
    ("http_token", f"{SECRET}!"),
    ("push_token", SECRET),
    ("push_token", f"ctwing={SECRET} "),
    ("onenet_aes_key", SECRET),
]
"""What cannot be used, in ways that libraries like to quote."""


def arguments(tmp_path):
    """A call of every command, by its name; what runs until it is ended stands further below."""
    file = tmp_path / "some.csv"
    file.write_text("code\nimei:860000000000009\n")
    recorded = tmp_path / "recorded.csv"
    recorded.write_text("time,value\n2026-11-01T00:00:00Z,1\n")
    return {
        "migrate": [], "status": [], "check": [], "observe": ["--recount"],
        "ingest": ["--drain-client", "ganzhi-7"], "simulate": ["--seconds", "0.1"],
        "replay": [str(recorded), "--terminal", "imei:860000000000009", "--metric", "power"],
        "decode": ["ganzhi/v1/370102/g/telemetry", "[]"],
        "export": ["--division", "370100", "--from", "2026-11-01", "--to", "2026-11-02"],
        "rejections list": [], "rejections show": ["1"], "rejections replay": ["--dry-run"],
        "terminals import": [str(file)], "terminals export": ["--out", str(tmp_path / "out.csv")],
        "terminals show": ["imei:860000000000009"], "terminals retire": ["imei:860000000000009"],
        "terminals forget": ["imei:860000000000009", "--yes"], "gateways import": [str(file)], "gateways list": [],
        "gateways show": ["g"], "gateways add": ["g", "--division", "370102"], "plan import": [str(file)],
        "plan show": [], "gaps list": [], "gaps show": ["1"], "gaps ack": ["1"], "maintenance list": [],
        "maintenance add": ["--from", "2026-11-01", "--to", "2026-11-02", "--reason", "r", "--gateway", "g"],
        "maintenance end": ["1"],
    }  # fmt: skip


def commands(command=None, path=()):
    """The names of all commands."""
    command = command or get_command(app)
    if subcommands := getattr(command, "commands", None):
        return [name for key, sub in subcommands.items() for name in commands(sub, (*path, key))]
    return [" ".join(path)]


def output(command, settings, caplog):
    """All that a command says, logs at debug level and its fault if it has one included."""
    logging.getLogger().setLevel(logging.DEBUG)
    done = CliRunner().invoke(app, command, env=environment(**settings))
    fault = f"{done.exception!r} {done.exception.__context__!r}" if done.exception else ""
    return done.output + fault + caplog.text


def test_every_setting_that_is_a_secret_is_named():
    """The list is the model's; each has its value here."""
    kinds = {name for name, field in Settings.model_fields.items() if SecretStr in _types(field.annotation)}
    assert kinds == set(SECRETS) == set(AWAY)


def _types(annotation):
    return getattr(annotation, "__args__", (annotation,))


@pytest.fixture(autouse=True)
def _logs_of_a_test(monkeypatch):
    """A command sets up logs for its process, which is that of all tests here: not for good."""
    configure = structlog.configure
    forgetting = {"cache_logger_on_first_use": False}
    monkeypatch.setattr(structlog, "configure", lambda **options: configure(**options | forgetting))
    yield
    structlog.reset_defaults()


@pytest.fixture
def quick(monkeypatch):
    """Nobody waits long for a server that is away."""
    from ingest import check_broker, service, status

    monkeypatch.setattr(service, "OPEN_SECONDS", 0.1)
    monkeypatch.setattr(status, "BETWEEN_SECONDS", 0.0)
    monkeypatch.setattr(check_broker, "QUIET_SECONDS", 0.05)
    monkeypatch.setattr(check_broker, "PROBE_MESSAGES", 10)


def test_no_command_says_one(tmp_path, caplog, quick):
    """With every server away, and with `--help`, no command says a secret."""
    calls = arguments(tmp_path)
    assert set(calls) < set(commands())
    for name in commands():
        for rest in (["--help"], calls.get(name, ["--nothing"])):
            said = output([*name.split(), *rest], AWAY, caplog)
            assert SECRET not in said, (name, said)


@ON_MOSQUITTO
def test_no_command_says_one_to_servers_that_refuse(database, tmp_path, caplog, quick):
    """A broker that knows another password, and a database without the role, are told without ours."""
    with guarded(tmp_path, password="another") as port:
        settings = AWAY | {"mqtt_url": f"mqtt://ganzhi:{MQTT}@127.0.0.1:{port}",
                           "database_url": database.url.replace("postgres@", f"nobody:{DATABASE}@")}  # fmt: skip
        for name in ("check", "simulate", "status", "migrate"):
            said = output([name, *arguments(tmp_path)[name]], settings, caplog)
            assert SECRET not in said, (name, said)


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_a_wrong_setting_is_not_quoted(name, value, monkeypatch, tmp_path, caplog):
    """From the environment, a file, the place of a file, TOML or the command line: the fault names the setting only."""
    toml = tmp_path / "ganzhi.toml"
    toml.write_text(f"{name} = '{value}'\n")
    (tmp_path / "value").write_text(value)
    upper = f"GANZHI_{name.upper()}"
    for environment_, config in (
        ({upper: value}, None), ({f"{upper}_FILE": str(tmp_path / "value")}, None), ({f"{upper}_FILE": value}, None),
        ({}, toml),
    ):  # fmt: skip
        with monkeypatch.context() as patch:
            for variable, text in environment_.items():
                patch.setenv(variable, text)
            with pytest.raises(SettingsError, match=upper) as fault:
                load(config)
        assert (
            SECRET
            not in f"{fault.value!r} {fault.value.__context__ if not fault.value.__suppress_context__ else ''}"
        )
    said = output(["check", "--config", str(toml)], {}, caplog)
    assert SECRET not in said
    if option := {"mqtt_url": "--mqtt-url", "database_url": "--database-url"}.get(name):
        assert SECRET not in output(["demo", option, value, "--data-dir", str(tmp_path)], {}, caplog)


def test_a_file_that_is_no_text_is_not_shown(monkeypatch, tmp_path):
    """A key in binary is told as such."""
    file = tmp_path / "value"
    file.write_bytes(SECRET.encode() + b"\xff")
    monkeypatch.setenv("GANZHI_HTTP_TOKEN_FILE", str(file))
    with pytest.raises(SettingsError, match=r"GANZHI_HTTP_TOKEN_FILE.*no text") as fault:
        load()
    assert SECRET not in str(fault.value)


@contextmanager
def guarded(tmp_path, password=MQTT):
    """The port of a Mosquitto that asks for this password of the user ganzhi."""
    if not (program := shutil.which("mosquitto_passwd")):
        pytest.skip("needs mosquitto_passwd")
    port, folder = free_port(), tmp_path / "guarded"
    folder.mkdir()
    passwords = folder / "passwords"
    subprocess.run([program, "-b", "-c", passwords, "ganzhi", password], check=True, capture_output=True)
    config = mosquitto_config(port, folder).replace("allow_anonymous true", f"password_file {passwords}")
    with Mosquitto(config, port, folder):
        yield port


@ON_MOSQUITTO
def test_services_say_none(database, tmp_path, caplog, quick):
    """Workers and an observer at work, in asyncio's debug mode: logs, pages, faults, command lines of all processes.

    And what the commands say that look at them.
    """
    first, second, logs = free_port(2), free_port(), [tmp_path / "ingest.log", tmp_path / "observe.log"]
    database.execute("CREATE ROLE hidden LOGIN SUPERUSER PASSWORD 'x'")
    try:
        with guarded(tmp_path) as port:
            settings = TOKENS | {
                "mqtt_url": f"mqtt://ganzhi:{MQTT}@127.0.0.1:{port}", "push_port": free_port(2), "share_group": "g",
                "database_url": database.url.replace("postgres@", f"hidden:{DATABASE}@"),
            }  # fmt: skip
            with (
                _running("ingest", first, logs[0], "--workers", "2", **settings) as workers,
                _running("observe", second, logs[1], **settings) as observer,
            ):
                said = _when_ready(first, logs[0]) + _when_ready(second, logs[1])
                said += _page(settings["push_port"], "/push/ctwing/g?token=wrong", "POST")
                names = _names(workers) + _names(observer)
                for command in ("check", "status"):
                    said += output([command], settings | {"http_port": first}, caplog)
    finally:
        database.execute("DROP ROLE hidden")
    said += "".join(names) + "".join(log.read_text() for log in logs)
    assert len(names) == 4
    assert "worker_started" in said
    assert "observer_loaded" in said
    assert "what is published comes back" in said
    assert "OK 正常" in said
    assert "refuses our token" not in said
    assert SECRET not in said


@contextmanager
def _running(command, port, log, *options, **settings):
    """A service in asyncio's debug mode, which likes to show arguments."""
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "ingest.cli", command, *options], stdout=stream, stderr=stream,
            env=environment(**settings | {PORTS[command]: port}) | {"PYTHONASYNCIODEBUG": "1"},
        )  # fmt: skip
    try:
        yield process.pid
    finally:
        process.terminate()
        process.wait(60)


def _names(pid):
    """How a process and its children are called, and how many they are."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [Path(f"/proc/{one}/cmdline").read_text() for one in (pid, *children)]


def _when_ready(port, log):
    deadline = time.monotonic() + 60
    while " 200 " not in (ready := _page(port, "/readyz")):
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)
    token = TOKENS["http_token"]
    return ready + "".join(
        _page(port, path, token=token) + _page(port, path) for path in ("/metrics", "/healthz", "/x")
    )


def _page(port, path, method="GET", token=""):
    """A raw answer; nothing while nobody listens."""
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\r\n"
    )
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=30) as sock:
            sock.sendall(head.encode())
            return b"".join(iter(lambda: sock.recv(65_536), b"")).decode()
    except ConnectionRefusedError:
        return ""


URLS = [
    f"postgresql://u@h/db?password={SECRET}&sslpassword={SECRET}", f"host=h password={SECRET} user=u",
    f"host=h password = '{SECRET} {SECRET}'", f"mqtt://u:{SECRET}@h",
]  # fmt: skip


@pytest.mark.parametrize("url", URLS)
def test_an_address_is_shown_without_its_password(url):
    """Wherever in it the password stands."""
    assert SECRET not in without_password(url)
    assert "h" in without_password(url)


def test_check_finds_secrets_in_the_environment(monkeypatch, tmp_path):
    """In production each is named, with what to do; one in a file is not, and a URL without a password is none."""
    monkeypatch.setenv("GANZHI_HTTP_TOKEN", TOKENS["http_token"])
    monkeypatch.setenv("GANZHI_MQTT_URL", AWAY["mqtt_url"])
    monkeypatch.setenv("GANZHI_DATABASE_URL", "postgresql://127.0.0.1:1/x")
    (tmp_path / "token").write_text(TOKENS["push_token"])
    monkeypatch.setenv("GANZHI_PUSH_TOKEN_FILE", str(tmp_path / "token"))
    found = {f.name: f.found for f in check.check_doors.run(load(production=True))}
    assert re.findall(r"GANZHI_\w+", found["secrets"]) == ["GANZHI_MQTT_URL", "GANZHI_HTTP_TOKEN"]
    assert "secrets" not in {f.name for f in check.check_doors.run(load())}
