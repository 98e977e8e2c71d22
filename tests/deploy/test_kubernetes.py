"""The manifests of deploy/kubernetes, checked against Kubernetes' own schemas and against what they deploy."""

import re
import shutil
import subprocess
from pathlib import Path

import kubernetes_validate
import pytest
import typer
import yaml

from ingest.cli import app
from ingest.service import DRAIN_SECONDS
from ingest.settings import Settings

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy/kubernetes"
KUSTOMIZATION = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
OBJECTS = [
    one for name in KUSTOMIZATION["resources"] for one in yaml.safe_load_all((FOLDER / name).read_text())
]
NAMED = [f"{one['kind']} {one['metadata']['name']}" for one in OBJECTS]
OLDEST = "1.29"
"""What clusters here may still run; the newest is what kubernetes-validate knows."""
SETTINGS = next(one["data"] for one in OBJECTS if one["kind"] == "ConfigMap")


def pod_of(one):
    spec = one["spec"]
    return (spec["jobTemplate"]["spec"] if "jobTemplate" in spec else spec)["template"]["spec"]


WORKLOADS = [one for one in OBJECTS if one["kind"] in {"StatefulSet", "Job", "CronJob"}]
workloads = pytest.mark.parametrize("workload", WORKLOADS, ids=[one["metadata"]["name"] for one in WORKLOADS])


def environment_of(workload):
    """What a pod's process has in its environment: a value, or None where it is the pod's own."""
    (container,) = pod_of(workload)["containers"]
    shared = SETTINGS if container.get("envFrom") == [{"configMapRef": {"name": "ganzhi"}}] else {}
    return shared | {one["name"]: one.get("value") for one in container["env"]}


def test_every_manifest_is_listed():
    """The folder holds what the kustomization lists, and nothing that is forgotten."""
    assert {path.name for path in FOLDER.iterdir()} == {*KUSTOMIZATION["resources"], "kustomization.yaml"}


@pytest.mark.parametrize("one", OBJECTS, ids=NAMED)
@pytest.mark.parametrize("version", [OLDEST, kubernetes_validate.latest_version()])
def test_it_fits_the_schema(one, version):
    """Every object fits the schema of the oldest and the newest release, unknown fields refused."""
    kubernetes_validate.validate(one, version, strict=True)


@pytest.mark.skipif(not shutil.which("kubectl"), reason="needs kubectl, for kubectl kustomize")
def test_kustomize_builds_it():
    """What is built has every object in the namespace, and the image with a tag."""
    built = subprocess.run(
        ["kubectl", "kustomize", FOLDER], capture_output=True, text=True, check=True, timeout=60
    )
    objects = list(yaml.safe_load_all(built.stdout))
    assert sorted(f"{one['kind']} {one['metadata']['name']}" for one in objects) == sorted(NAMED)
    assert {one["metadata"].get("namespace", one["metadata"]["name"]) for one in objects} == {"ganzhi"}
    assert len(re.findall(r"image: \S+/ganzhi:\d+\.\d+\.\d+$", built.stdout, re.MULTILINE)) == len(WORKLOADS)


@workloads
def test_no_pod_can_do_more_than_it_needs(workload):
    """Each fits Pod Security's restricted profile, writes nowhere, and has no key to the cluster."""
    pod = pod_of(workload)
    (container,) = pod["containers"]
    assert pod["securityContext"] == {
        "runAsNonRoot": True, "runAsUser": 10001, "runAsGroup": 10001, "fsGroup": 10001,
        "seccompProfile": {"type": "RuntimeDefault"},
    }  # fmt: skip
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
    }  # fmt: skip
    assert pod["automountServiceAccountToken"] is False
    assert container["resources"].keys() == {"requests", "limits"}
    assert f"USER {pod['securityContext']['runAsUser']}:" in (ROOT / "deploy/Dockerfile").read_text()


@workloads
def test_settings_exist(workload):
    """Every GANZHI_ variable is a setting or its _FILE, and no service of the cluster adds one."""
    known = {f"GANZHI_{field.upper()}" for field in Settings.model_fields}
    assert {name.removesuffix("_FILE") for name in environment_of(workload)} <= known
    assert pod_of(workload)["enableServiceLinks"] is False


@workloads
def test_all_have_the_same_settings(workload):
    """Maintenance ends the ledger at the horizon that workers count on, and drops what they no longer take."""
    assert environment_of(workload).items() >= SETTINGS.items()


@workloads
def test_secrets_are_files_that_deploy_makes(workload):
    """A pod gets the secrets that its settings name and no others; each is one that make-secrets.sh makes."""
    pod = pod_of(workload)
    (volume,) = [one["secret"] for one in pod["volumes"] if "secret" in one]
    given = {item["key"] for item in volume["items"]}
    files = {value for name, value in environment_of(workload).items() if name.endswith("_FILE")}
    assert {f"/run/secrets/ganzhi/{name}" for name in given} == files
    assert given <= yaml.safe_load((ROOT / "docker-compose.yml").read_text())["secrets"].keys()
    assert all(item["key"] == item["path"] for item in volume["items"])
    assert "Secret" not in {one["kind"] for one in OBJECTS}


@workloads
def test_the_command_exists(workload):
    """What is started is a command of ganzhi with options that it has."""
    (container,) = pod_of(workload)["containers"]
    name, *options = container["args"]
    typer.main.get_command(app).commands[name].make_context(name, options)


@pytest.mark.parametrize(("name", "field"), [("ingest", "http_port"), ("observe", "observer_http_port")])
def test_ports_probes_and_policy_agree(name, field):
    """A service's port is the setting's default, probed by what it answers, and open to Prometheus."""
    port = Settings.model_fields[field].default
    (workload,) = [one for one in WORKLOADS if one["metadata"]["name"] == name]
    (service,) = [one for one in OBJECTS if one["kind"] == "Service" and one["metadata"]["name"] == name]
    (policy,) = [one for one in OBJECTS if one["kind"] == "NetworkPolicy"]
    (container,) = pod_of(workload)["containers"]
    assert container["ports"] == [{"name": "metrics", "containerPort": port}]
    assert container["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": "metrics"}
    assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "metrics"}
    assert service["spec"]["ports"] == [{"name": "metrics", "port": port, "targetPort": "metrics"}]
    assert service["spec"]["selector"] == workload["spec"]["selector"]["matchLabels"]
    assert workload["spec"]["serviceName"] == name
    assert {"protocol": "TCP", "port": port} in policy["spec"]["ingress"][0]["ports"]


def test_workers_have_durable_names_and_time_to_drain():
    """Each worker is known to the broker by its pod's name, shares with the others, and is killed after the drain."""
    (ingest,) = [one for one in WORKLOADS if one["metadata"]["name"] == "ingest"]
    (container,) = pod_of(ingest)["containers"]
    (name,) = [one for one in container["env"] if one["name"] == "GANZHI_CLIENT_ID"]
    assert ingest["kind"] == "StatefulSet"
    assert name["valueFrom"] == {"fieldRef": {"fieldPath": "metadata.name"}}
    assert SETTINGS["GANZHI_SHARE_GROUP"]
    assert pod_of(ingest)["terminationGracePeriodSeconds"] > max(30, DRAIN_SECONDS)
