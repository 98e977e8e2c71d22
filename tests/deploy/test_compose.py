"""What `docker compose` would read, checked as far as that goes without a container engine."""

import json
import re
import shutil
import subprocess
from importlib.resources import files
from pathlib import Path

import jsonschema
import pytest
import yaml

from ingest.roles import LOGINS
from ingest.settings import Settings

ROOT = Path(__file__).parents[2]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES = COMPOSE["services"]
OURS = [name for name, service in SERVICES.items() if "build" in service]
DOCKERFILE = (ROOT / "deploy/Dockerfile").read_text()
CONFIGURED = {
    "mosquitto": ["deploy/mosquitto/mosquitto.conf"],
    "grafana": ["grafana/provisioning/datasources/database.yml"],
    "prometheus": ["deploy/prometheus/prometheus.yml"],
}
"""Files of a service that name secrets."""
ALERTS = "./deploy/secrets/alerts"
"""A folder with a file for each receiver, which make-secrets.sh makes."""
PINNED = re.compile(r"[a-z0-9./-]+:v?\d+\.\d+\.\d+[a-z0-9.-]*")
needs_tools = pytest.mark.skipif(
    not (shutil.which("mosquitto_passwd") and shutil.which("openssl")),
    reason="needs mosquitto_passwd and openssl",
)


def make_secrets(folder):
    return subprocess.run(
        [ROOT / "deploy/make-secrets.sh", folder], capture_output=True, text=True, check=False, timeout=30
    )


def test_it_follows_the_compose_specification():
    """The compose file fits the specification's JSON Schema (as check-jsonschema ships it)."""
    schema = files("check_jsonschema") / "builtin_schemas/vendor/compose-spec.json"
    jsonschema.validate(COMPOSE, json.loads(schema.read_text()))


@pytest.mark.parametrize("name", SERVICES)
def test_images_are_pinned_to_a_release(name):
    """Every image names a release of three numbers, except ours, which is built here."""
    image = SERVICES[name]["image"]
    assert image == "ganzhi:local" if name in OURS else PINNED.fullmatch(image)


@pytest.mark.parametrize("name", SERVICES)
def test_what_is_mounted_from_the_repository_exists(name):
    """A bind mount of a missing path would make an empty folder instead of an error."""
    sources = {volume.split(":")[0] for volume in SERVICES[name].get("volumes", [])} - {ALERTS}
    for source in sources:
        assert (ROOT / source).exists() if source.startswith(".") else source in COMPOSE["volumes"]


@pytest.mark.parametrize("name", SERVICES)
def test_secrets_are_declared_and_read(name):
    """A service gets the secrets it reads, no others, and reads only what it gets."""
    service = SERVICES[name]
    read = set(re.findall(r"/run/secrets/(\w+)", json.dumps(service)))
    if "--password-dir" in service.get("command", []):
        read |= set(LOGINS)
    if any(volume.startswith(f"{ALERTS}:") for volume in service.get("volumes", [])):
        read -= {"alerts"}
    for file in CONFIGURED.get(name, ()):
        read |= set(re.findall(r"/run/secrets/(\w+)", (ROOT / file).read_text()))
    assert set(service.get("secrets", [])) == read
    assert read <= set(COMPOSE["secrets"])


@pytest.mark.parametrize("name", OURS)
def test_settings_exist(name):
    """Every GANZHI_ variable is a setting, or a setting's _FILE; the service refuses any other."""
    known = {f"GANZHI_{field.upper()}" for field in Settings.model_fields}
    for variable in SERVICES[name]["environment"]:
        assert variable.removesuffix("_FILE") in known


@needs_tools
def test_services_log_in_as_their_roles(tmp_path):
    """The superuser migrates; each service has its role's URL, with the password that the role is given."""
    folder = tmp_path / "secrets"
    make_secrets(folder)
    url = re.compile(r"postgresql://(\w+):(\w+)@timescaledb:5432/ganzhi")
    roles = {}
    for name in ("migrate", "maintain", "ingest", "observe"):
        file = Path(SERVICES[name]["environment"]["GANZHI_DATABASE_URL_FILE"]).name
        roles[name], password = url.fullmatch((folder / file).read_text().strip()).groups()
        of_role = "postgres_password" if name == "migrate" else roles[name]
        assert (folder / of_role).read_text().strip() == password
    assert roles == {
        "migrate": "postgres",
        "maintain": "ganzhi_owner",
        "ingest": "ganzhi_writer",
        "observe": "ganzhi_observer",
    }


@pytest.mark.parametrize("name", SERVICES)
def test_no_container_can_do_more_than_it_needs(name):
    """Each has a read-only root, no capability and no way to gain one, a user that is not root, and its own network."""
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "/tmp" in service["tmpfs"]
    assert name in OURS or service["user"].split(":")[0] not in {"", "0", "root"}
    assert not service.keys() & {"privileged", "cap_add", "devices", "network_mode", "pid", "ipc"}


@pytest.mark.parametrize("name", SERVICES)
def test_doors_are_open_to_this_machine_only(name):
    """A published port listens on the loopback address, and nothing of the host's is mounted writable."""
    service = SERVICES[name]
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
    assert all(
        volume.endswith(":ro") for volume in service.get("volumes", []) if volume.startswith((".", "/"))
    )


@pytest.mark.parametrize("name", sorted(SERVICES.keys() - {"migrate", "maintain", "simulate"}))
def test_health_is_asked_by_use(name):
    """A service that others use is healthy when it does its work for a client; an open port is not enough."""
    check = json.dumps(SERVICES[name]["healthcheck"]["test"])
    assert re.search(r"/readyz|/-/ready|/api/health|SELECT 1|mosquitto_sub .*-C 1", check)


def test_ingest_has_time_to_drain():
    """SIGTERM drains for up to 30 s, so the container is killed later than that."""
    assert int(SERVICES["ingest"]["stop_grace_period"].removesuffix("s")) > 30


def test_the_scraped_port_is_the_one_the_service_listens_on():
    """Prometheus, the image and the health check agree with the setting's default."""
    port = Settings.model_fields["http_port"].default
    prometheus = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
    assert prometheus["scrape_configs"][0]["static_configs"] == [{"targets": [f"ingest:{port}"]}]
    assert f"EXPOSE {port}\n" in DOCKERFILE
    assert f"127.0.0.1:{port}/" in json.dumps(SERVICES["ingest"]["healthcheck"])


def test_the_broker_lets_our_settings_rule():
    """The broker ends sessions later than we ask, and passes on payloads that we call too large."""
    conf = (ROOT / "deploy/mosquitto/mosquitto.conf").read_text()
    options = dict(line.split(maxsplit=1) for line in conf.splitlines() if line and line[0] != "#")
    assert int(options["persistent_client_expiration"].removesuffix("d")) * 24 > _default("session_hours")
    assert int(options["max_packet_size"]) > _default("max_payload_bytes")


def _default(field):
    return Settings.model_fields[field].default


def test_the_image_is_built_from_pinned_and_hashed_parts_and_not_root():
    """Base images are pinned and equal, dependencies come by hash, the user is a number that is not 0."""
    bases = re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)
    assert len(set(bases)) == 1
    assert PINNED.fullmatch(bases[0])
    assert "pip install --require-hashes -r requirements.lock" in DOCKERFILE
    assert re.search(r"^USER [1-9]\d*:[1-9]\d*$", DOCKERFILE, re.MULTILINE)
    assert DOCKERFILE.endswith('ENTRYPOINT ["ganzhi"]\n')


def test_the_build_context_holds_what_the_image_copies():
    """Everything that is copied is let through by the ignore file, and nothing else."""
    copied = set()
    for line in re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE):
        copied |= set(line.split())
    ignore = (ROOT / "deploy/Dockerfile.dockerignore").read_text().splitlines()
    assert copied == {line[1:] for line in ignore if line.startswith("!")}


@needs_tools
class TestMakeSecrets:
    def test_it_makes_what_compose_declares(self, tmp_path):
        """Every declared secret is made, in the folder that compose names, which git ignores."""
        assert make_secrets(tmp_path / "secrets").returncode == 0
        made = {path.name for path in (tmp_path / "secrets").iterdir() if path.is_file()}
        assert made == set(COMPOSE["secrets"])
        declared = {name: secret["file"] for name, secret in COMPOSE["secrets"].items()}
        assert declared == {name: f"./deploy/secrets/{name}" for name in made}
        assert (ROOT / "deploy/secrets/.gitignore").read_text().splitlines()[1] == "*"

    def test_every_receiver_of_alerts_has_a_file(self, tmp_path):
        """Alertmanager finds a URL for each receiver that its configuration names, and no other."""
        make_secrets(tmp_path)
        receivers = yaml.safe_load((ROOT / "deploy/alertmanager/alertmanager.yml").read_text())["receivers"]
        hooks = [hook for receiver in receivers for hook in receiver.get("webhook_configs", [])]
        made = {f"/run/secrets/alerts/{path.name}" for path in (tmp_path / "alerts").iterdir()}
        assert {hook["url_file"] for hook in hooks} == made
        assert all(path.read_text().startswith("http://") for path in (tmp_path / "alerts").iterdir())

    def test_it_does_not_replace_passwords(self, tmp_path):
        """A second run changes nothing and says why."""
        make_secrets(tmp_path)
        before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
        again = make_secrets(tmp_path)
        assert again.returncode == 1
        assert "is there already" in again.stderr
        assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
