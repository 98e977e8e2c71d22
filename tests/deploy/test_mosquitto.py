"""Mosquitto with the configuration, access list, passwords and certificates that deploy/ gives it, tried from outside.

Only paths and ports are rewritten. Clients are MQTT 5, where a refusal is visible.
"""

import os
import queue
import re
import shlex
import shutil
import signal
import socket
import ssl
import subprocess
import time
from pathlib import Path
from urllib.parse import urlsplit

import paho.mqtt.client as mqtt
import pytest
import yaml
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from ingest import check_broker, vendor
from ingest.settings import load
from tests.brokers import Mosquitto, free_port, needs_mosquitto

pytestmark = needs_mosquitto

ROOT = Path(__file__).parents[2]
WAIT_SECONDS = 10
NOT_AUTHORIZED = 0x87
FIRST_REFUSAL = 0x80
OWN = "ganzhi/v1/370102/gw-a"
INPUTS = [
    f"{OWN}/telemetry", f"{OWN}/presence", f"{OWN}/status",
    "nbiot/ctwing/gw-a", "nbiot/onenet/gw-a", "nbiot/iotda/gw-a",
    "spBv1.0/plant/NBIRTH/gw-a", "spBv1.0/plant/NDATA/gw-a", "spBv1.0/plant/NDEATH/gw-a",
    "spBv1.0/plant/DBIRTH/gw-a/press", "spBv1.0/plant/DDATA/gw-a/press", "spBv1.0/plant/DDEATH/gw-a/press",
]  # fmt: skip
REFUSED = [
    ("gw-a", "ganzhi/v1/370102/gw-b/telemetry"),
    ("gw-a", "ganzhi/v1/370102/gw-b/status"),
    ("gw-a", f"{OWN}/rejected"),
    ("gw-a", f"{OWN}/telemetry/more"),
    ("gw-a", "nbiot/onenet/gw-b"),
    ("gw-a", "spBv1.0/plant/NDATA/gw-b"),
    ("gw-a", "spBv1.0/plant/NCMD/gw-a"),
    ("gw-a", "anything"),
    ("ganzhi", f"{OWN}/telemetry"),
    ("ganzhi", "spBv1.0/plant/DCMD/gw-a/press"),
    ("observer", f"{OWN}/rejected"),
    ("observer", f"{OWN}/status"),
    ("simulator", f"{OWN}/rejected"),
    ("health", f"{OWN}/telemetry"),
]


class Deployed(Mosquitto):
    """The broker of deploy/ on a free port, in a folder of its own, and its users' passwords."""

    def __init__(self, folder):
        secrets = folder / "secrets"
        subprocess.run([ROOT / "deploy/make-secrets.sh", secrets], check=True, capture_output=True)
        self.passwords = {"gw-a": "word-a", "gw-b": "word-b"}
        for user, password in self.passwords.items():
            file = secrets / "mosquitto_passwords"
            subprocess.run(["mosquitto_passwd", "-b", file, user, password], check=True, capture_output=True)
        for name in ("ingest_mqtt_url", "observe_mqtt_url", "simulate_mqtt_url"):
            url = urlsplit((secrets / name).read_text().strip())
            self.passwords[url.username] = url.password
        self.passwords["health"] = (secrets / "mosquitto_health_password").read_text().strip()
        self.secrets = secrets
        self.access = folder / "acl"
        self.access.write_text((ROOT / "deploy/mosquitto/acl").read_text())
        port, self.tls_port, self.service_port = free_port(), free_port(), free_port()
        super().__init__(self._config(port, folder), port, folder)

    def _config(self, port, folder):
        text = (ROOT / "deploy/mosquitto/mosquitto.conf").read_text()
        for there, here in {
            "listener 1883\n": f"listener {port} 127.0.0.1\n",
            "listener 8883\n": f"listener {self.tls_port} 127.0.0.1\n",
            "listener 8884\n": f"listener {self.service_port} 127.0.0.1\n",
            "/run/secrets/": f"{self.secrets}/",
            "/mosquitto/config/acl\n": f"{self.access}\n",
            "/mosquitto/data/": f"{folder}/",
        }.items():
            assert there in text
            text = text.replace(there, here)
        return text + ("user root\n" if os.geteuid() == 0 else "")  # else it may not read the folder

    def client(self, user, **options):
        return Client(self.port, user, self.passwords.get(user), **options)

    def sign(self, name, folder=None):
        """A gateway's certificate and key, of the broker's authority or one in another folder."""
        folder = folder or self.secrets / "certificates"
        if not (folder / f"{name}.crt").exists():
            subprocess.run([ROOT / "deploy/certificate.sh", folder, name], check=True, capture_output=True)
        return folder / f"{name}.crt", folder / f"{name}.key"

    def shows(self, name, user=None, **options):
        """A client with the certificate of this name."""
        tls = self.secrets / "mosquitto_authority", *self.sign(name)
        return Client(self.tls_port, user, "wrong", tls=tls, **options)

    def elsewhere(self, user):
        """What a worker or observer on another machine has: port, authority of the broker, certificate and key."""
        folder = self.secrets / "certificates"
        return (
            self.service_port,
            self.secrets / "mosquitto_authority",
            folder / f"{user}.crt",
            folder / f"{user}.key",
        )

    def reload(self):
        """SIGHUP, and wait until the files are read."""
        before = self.log.count("Reloading config")
        self._process.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + WAIT_SECONDS
        while self.log.count("Reloading config") == before:
            assert time.monotonic() < deadline
            time.sleep(0.01)


class Client:
    """A connected MQTT client whose calls wait for the broker's answer."""

    def __init__(self, port, user, password, *, session=None, client_id="", tls=()):
        self._client = mqtt.Client(
            mqtt.CallbackAPIVersion.VERSION2, client_id=session or client_id, protocol=mqtt.MQTTv5
        )
        if user:
            self._client.username_pw_set(user, password)
        if tls:
            self._client.tls_set(*map(str, tls))
        self.inbox = queue.Queue()
        self._answers = queue.Queue()
        self._client.on_connect = lambda _c, _u, _f, reason, _p: self._answers.put(reason)
        self._client.on_disconnect = lambda _c, _u, _f, reason, _p: self._answers.put(reason)
        self._client.on_publish = lambda _c, _u, _m, reason, _p: self._answers.put(reason)
        self._client.on_subscribe = lambda _c, _u, _m, reasons, _p: self._answers.put(reasons[0])
        self._client.on_message = lambda _c, _u, message: self.inbox.put(message)
        properties = Properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = 3600 if session else 0
        self._client.connect("127.0.0.1", port, clean_start=not session, properties=properties)
        self._client.loop_start()
        self.connected = self.answer()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._client.disconnect()
        self._client.loop_stop()

    def answer(self):
        return self._answers.get(timeout=WAIT_SECONDS)

    def publish(self, topic, payload=b"x"):
        self._client.publish(topic, payload, qos=1)
        return self.answer()

    def subscribe(self, topic):
        self._client.subscribe(topic, qos=1)
        return self.answer()

    def receive(self):
        return self.inbox.get(timeout=WAIT_SECONDS)


@pytest.fixture(scope="module")
def broker(tmp_path_factory):
    with Deployed(tmp_path_factory.mktemp("broker")) as deployed:
        yield deployed


@pytest.mark.parametrize("user", [None, "gw-a", "nobody"])
def test_strangers_are_refused(broker, user):
    """Nobody comes in without a name, with a wrong password, or with an unknown name."""
    with Client(broker.port, user, "wrong") as client:
        assert client.connected.value == NOT_AUTHORIZED


@pytest.mark.parametrize("topic", INPUTS)
def test_the_service_reads_what_a_gateway_may_write(broker, topic):
    """Each input of a gateway reaches the service."""
    with broker.client("ganzhi") as service, broker.client("gw-a") as gateway:
        assert service.subscribe(topic).value < FIRST_REFUSAL
        assert gateway.publish(topic, b"reading").value == 0
        assert (message := service.receive()).topic == topic
        assert message.payload == b"reading"


@pytest.mark.parametrize(("user", "topic"), REFUSED)
def test_nobody_writes_where_another_speaks(broker, user, topic):
    """A message under another's topic is answered 0x87, Not authorized."""
    with broker.client(user) as client:
        assert client.publish(topic).value == NOT_AUTHORIZED


def test_a_gateway_reads_its_own_refusals_only(broker):
    """Of the service's two refusals, a gateway that subscribes to everything gets its own."""
    with broker.client("ganzhi") as service, broker.client("gw-a") as gateway:
        gateway.subscribe("#")
        assert service.publish("ganzhi/v1/370102/gw-b/rejected").value < FIRST_REFUSAL
        assert service.publish(f"{OWN}/rejected").value == 0
        assert gateway.receive().topic == f"{OWN}/rejected"


def test_an_edge_node_is_asked_for_its_births_alone(broker):
    """Of the service's requests for births, an edge node that subscribes to everything gets its own."""
    with broker.client("ganzhi") as service, broker.client("gw-a") as node:
        node.subscribe("#")
        assert service.publish("spBv1.0/plant/NCMD/gw-b").value < FIRST_REFUSAL
        assert service.publish("spBv1.0/plant/NCMD/gw-a").value == 0
        assert node.receive().topic == "spBv1.0/plant/NCMD/gw-a"


def test_the_observer_reads_status_and_nothing_else(broker):
    """Of all that a gateway publishes, an observer that subscribes to everything gets the status."""
    with broker.client("observer") as observer, broker.client("gw-a") as gateway:
        observer.subscribe("#")
        assert gateway.publish(f"{OWN}/telemetry").value < FIRST_REFUSAL
        assert gateway.publish(f"{OWN}/status").value == 0
        assert observer.receive().topic == f"{OWN}/status"


@pytest.mark.parametrize("topic", INPUTS)
def test_a_certificate_says_who_publishes(broker, topic):
    """With a certificate every topic of its name passes, whatever user the client claims to be."""
    with broker.client("ganzhi") as service, broker.shows("gw-a", user="ganzhi") as gateway:
        assert service.subscribe(topic).value < FIRST_REFUSAL
        assert gateway.publish(topic).value == 0


@pytest.mark.parametrize("topic", [topic for user, topic in REFUSED if user == "gw-a"])
def test_a_certificate_speaks_for_nobody_else(broker, topic):
    """With a certificate a message under another's topic is answered 0x87, whatever user the client claims to be."""
    with broker.shows("gw-a", user="ganzhi") as gateway:
        assert gateway.publish(topic).value == NOT_AUTHORIZED


@pytest.mark.skipif(
    not shutil.which("mosquitto_pub"), reason="needs mosquitto_pub: apt install mosquitto-clients"
)
def test_the_line_to_try_works_with_a_certificate(broker):
    """What `gateways add` prints publishes, run beside the three files, once the host is filled in."""
    cert, _ = broker.sign("gw-a")
    sheet = vendor.sheet(load(mqtt_url="mqtt://ganzhi:word@mosquitto:1883"), "gw-a", 370102)
    line = dict(sheet)["try"].replace("HOST", "localhost").replace("8883", str(broker.tls_port))
    with broker.client("ganzhi") as service:
        service.subscribe(f"{OWN}/telemetry")
        subprocess.run(shlex.split(line), cwd=cert.parent, check=True, timeout=WAIT_SECONDS)
        assert b"gw-a-test/temperature" in service.receive().payload
    assert "or, no users" not in dict(sheet)


def test_a_certificate_opens_its_own_refusals_only(broker):
    """A gateway with a certificate that subscribes to every gateway's refusals gets its own."""
    with broker.client("ganzhi") as service, broker.shows("gw-a") as gateway:
        gateway.subscribe("ganzhi/v1/+/+/rejected")
        assert service.publish("ganzhi/v1/370102/gw-b/rejected").value < FIRST_REFUSAL
        assert service.publish(f"{OWN}/rejected").value == 0
        assert gateway.receive().topic == f"{OWN}/rejected"


def test_a_certificate_takes_over_no_session(broker):
    """A gateway that connects under a worker's client id gets nothing of what waits for it, and ends nothing."""
    with broker.client("ganzhi", session="ganzhi-0") as worker:
        worker.subscribe(f"{OWN}/telemetry")
    with broker.client("gw-a") as gateway:
        gateway.publish(f"{OWN}/telemetry", b"waits")
    for session in ("ganzhi-0", None):
        with broker.shows("gw-b", session=session, client_id="ganzhi-0") as other:
            assert other.connected.value == 0
    with broker.client("ganzhi", session="ganzhi-0") as worker:
        assert worker.receive().payload == b"waits"


def test_nobody_comes_in_by_tls_without_a_certificate_of_ours(broker, tmp_path):
    """No certificate, or one that another authority signed: the connection ends without an answer to CONNECT."""
    stranger = broker.sign("gw-a", tmp_path)
    for shown in ((), stranger):
        with pytest.raises((ssl.SSLError, OSError)):
            _greet(broker, shown)


def test_gateways_and_workers_have_no_certificate_for_each_other_s_door(broker):
    """A gateway's certificate does not open the workers' port, where client ids are free, nor theirs its own."""
    service_port, _, *worker = broker.elsewhere("ganzhi")
    for shown, port in ((broker.sign("gw-a"), service_port), (worker, broker.tls_port)):
        with pytest.raises((ssl.SSLError, OSError)):
            _greet(broker, shown, port)


def test_a_worker_on_another_machine_comes_in_with_its_certificate(broker):
    """Under its own client id it gets what waits for it, as the user of its certificate, whatever it claims to be."""
    port, *tls = broker.elsewhere("ganzhi")
    for topic in (f"{OWN}/telemetry", None):
        with Client(port, "observer", "wrong", session="ganzhi-7", tls=tls) as worker:
            if topic:
                assert worker.subscribe(topic).value < FIRST_REFUSAL
                with broker.client("gw-a") as gateway:
                    assert gateway.publish(topic, b"now").value == 0
                assert worker.receive().payload == b"now"
            else:
                assert worker.receive().payload == b"waits"
        with broker.client("gw-a") as gateway:
            gateway.publish(f"{OWN}/telemetry", b"waits")


def test_an_observer_on_another_machine_reads_status_and_nothing_else(broker):
    """Its certificate makes it the user `observer`: of all that a gateway publishes it gets the status."""
    port, *tls = broker.elsewhere("observer")
    with Client(port, None, None, tls=tls) as observer, broker.client("gw-a") as gateway:
        observer.subscribe("#")
        gateway.publish(f"{OWN}/telemetry")
        gateway.publish(f"{OWN}/status")
        assert observer.receive().topic == f"{OWN}/status"


def test_check_is_content_on_another_machine(broker):
    """With the certificate alone `ganzhi check` has nothing against the broker, round trip and queue included."""
    port, ca, cert, key = broker.elsewhere("ganzhi")
    settings = load(mqtt_url=f"mqtts://localhost:{port}", mqtt_ca=ca, mqtt_cert=cert, mqtt_key=key)
    found = list(check_broker.run(settings))
    assert {"broker's certificate", "round trip"} <= {finding.name for finding in found}
    assert [finding for finding in found if finding.level != "ok"] == []


def _greet(broker, shown, port=None):
    """CONNECT over TLS and read the answer; OSError where there is none."""
    context = ssl.create_default_context(cafile=str(broker.secrets / "mosquitto_authority"))
    if shown:
        context.load_cert_chain(*shown)
    with (
        socket.create_connection(("127.0.0.1", port or broker.tls_port), timeout=WAIT_SECONDS) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as secure,
    ):
        secure.sendall(b"\x10\x0d\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x00")
        if not secure.recv(4):
            raise ConnectionResetError


def test_the_greeting_is_answered_to_a_certificate_of_ours(broker):
    """The same greeting with a certificate of our authority gets an answer."""
    _greet(broker, broker.sign("gw-a"))


def test_a_lost_certificate_is_shut_out(tmp_path):
    """After the lines that the access list shows and SIGHUP it may publish nothing; others go on."""
    with Deployed(tmp_path) as broker, broker.shows("gw-a") as lost, broker.shows("gw-b") as other:
        assert lost.publish(f"{OWN}/telemetry").value < FIRST_REFUSAL
        example = re.search(r"# (user )jn-water-01\n# (topic deny #\n)", broker.access.read_text())
        with broker.access.open("a") as access:
            access.write(f"{example[1]}gw-a\n{example[2]}")
        broker.reload()
        assert lost.publish(f"{OWN}/telemetry").value == NOT_AUTHORIZED
        assert other.publish("ganzhi/v1/370102/gw-b/telemetry").value < FIRST_REFUSAL


@pytest.mark.parametrize(
    "name", ["ganzhi", "ganzhi-0", "observer", "simulator", "health", "authority", "a/b", "+", "#"]
)
def test_no_certificate_is_signed_for_a_name_of_the_service(tmp_path, name):
    """A gateway named like the service's users, or unlike a topic's level, would get rights that are not its own."""
    done = subprocess.run([ROOT / "deploy/certificate.sh", tmp_path, name], check=False, capture_output=True)
    assert done.returncode == 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", [["gw-a"], ["ganzhi-0"], ["simulator"], ["ganzhi", "mqtt.example.cn"]])
def test_the_service_s_authority_signs_for_nobody_else(tmp_path, words):
    """What may choose its client id is `ganzhi` and `observer` as clients, asked for by --service, and no one else."""
    command = [ROOT / "deploy/certificate.sh", "--service", tmp_path, *words]
    done = subprocess.run(command, check=False, capture_output=True)
    assert done.returncode == 2
    assert list(tmp_path.iterdir()) == []


def test_what_was_signed_is_said(tmp_path):
    """The files that were made, who signed and until when stand on standard output."""
    command = [ROOT / "deploy/certificate.sh", tmp_path, "gw-a"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    for part in (
        f"{tmp_path}/authority.crt",
        f"{tmp_path}/gw-a.crt and .key",
        "signed by authority.crt, until",
    ):
        assert part in done.stdout


def test_the_simulator_speaks_for_any_gateway(broker):
    """The simulated fleet is one user with many gateways."""
    with broker.client("simulator") as simulator:
        assert simulator.publish("ganzhi/v1/370202/sim-17/telemetry").value < FIRST_REFUSAL


def test_what_is_too_large_for_the_service_still_reaches_it(broker):
    """2 MiB, which the service refuses in writing, passes; 9 MiB costs the sender its connection."""
    with broker.client("ganzhi") as service, broker.client("gw-a") as gateway:
        service.subscribe(f"{OWN}/telemetry")
        assert gateway.publish(f"{OWN}/telemetry", bytes(2 * 2**20)).value == 0
        assert len(service.receive().payload) == 2 * 2**20
        with broker.client("gw-b") as other:
            assert other.publish("ganzhi/v1/370102/gw-b/telemetry", bytes(9 * 2**20)).value >= FIRST_REFUSAL


def test_an_absent_worker_gets_everything_even_after_a_restart(tmp_path):
    """More than Mosquitto's default of 1,000 messages wait for a worker that is away, across a restart."""
    sent = [b"%d" % number for number in range(1500)]
    with Deployed(tmp_path) as broker:
        with broker.client("ganzhi", session="ganzhi-0") as worker:
            worker.subscribe(f"{OWN}/telemetry")
        with broker.client("gw-a") as gateway:
            assert {gateway.publish(f"{OWN}/telemetry", payload).value for payload in sent} == {0}
        broker.stop()
        broker.start()
        with broker.client("ganzhi", session="ganzhi-0") as worker:
            assert [worker.receive().payload for _ in sent] == sent


@pytest.mark.skipif(
    not shutil.which("mosquitto_sub"), reason="needs mosquitto_sub: apt install mosquitto-clients"
)
def test_the_health_check_knows_a_broker_that_serves(tmp_path):
    """The container's health check succeeds while the broker serves, and fails when it is gone."""
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    _, command = compose["services"]["mosquitto"]["healthcheck"]["test"]
    with Deployed(tmp_path) as broker:
        command = command.replace("$$", "$").replace("/run/secrets", str(broker.secrets))
        command = command.replace("mosquitto_sub", f"mosquitto_sub -h 127.0.0.1 -p {broker.port}")
        assert _status(command) == 0
        broker.stop()
        assert _status(command) != 0


def _status(command):
    return subprocess.run(
        ["sh", "-c", command], check=False, capture_output=True, timeout=WAIT_SECONDS
    ).returncode
