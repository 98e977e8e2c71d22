"""One contract for both transports, on real brokers: what is delivered, acknowledged, kept and counted.

The publisher here speaks MQTT 5 on a plain socket, so that no client of ours is tested against itself.
"""

import asyncio
import contextlib
import socket
import struct
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import mqtt5
import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from ingest.mqtt.backoff import Backoff, Patience
from ingest.mqtt.codec import CodecTransport
from ingest.mqtt.inbox import TAKE_BYTES, Inbox
from ingest.mqtt.link import Link
from ingest.mqtt.packets import READ_BYTES
from ingest.mqtt.paho import PahoTransport
from ingest.mqtt.subscriber import Subscriber
from ingest.settings import Settings
from schemas.message import Message

from .brokers import Iotcore, Mosquitto, free_port, mosquitto_config, needs_mosquitto
from .proxy import Proxy

PUBACK, SUBSCRIBE, UNSUBSCRIBE, PINGREQ, DISCONNECT = 0x40, 0x82, 0xA2, 0xC0, 0xE0
QUICK = Patience(answer_seconds=2, first_retry_seconds=0.05, longest_retry_seconds=0.2, taken_over_seconds=5)
TOPIC = "ganzhi/v1/370100/gw-1/telemetry"
FILTER = "ganzhi/v1/+/+/telemetry"


@dataclass
class Case:
    """A transport and the broker it runs against."""

    make: type[Subscriber]
    broker: Mosquitto | Iotcore
    port: int

    def transport(
        self,
        port: int | None = None,
        patience: Patience = QUICK,
        *,
        retained: bool = False,
        **settings: object,
    ) -> Subscriber:
        return self.make(Settings(mqtt_url=f"mqtt://127.0.0.1:{port or self.port}", **settings), [FILTER], "test-0",
                         clock=lambda: 12.5, patience=patience, retained=retained)  # fmt: skip

    async def publish(self, *payloads: bytes, **properties: object) -> None:
        messages = [(TOPIC, payload) for payload in payloads]
        await asyncio.to_thread(publish, self.broker.port, messages, **properties)


ON_MOSQUITTO = [
    pytest.param((CodecTransport, "mosquitto"), marks=needs_mosquitto, id="codec-mosquitto"),
    pytest.param((PahoTransport, "mosquitto"), marks=needs_mosquitto, id="paho-mosquitto"),
]
ON_ALL = [
    *ON_MOSQUITTO,
    pytest.param((CodecTransport, "iotcore"), id="codec-iotcore"),
    pytest.param((PahoTransport, "iotcore"), id="paho-iotcore"),
]
on_mosquitto = pytest.mark.parametrize("case", ON_MOSQUITTO, indirect=True)


@pytest.fixture(params=ON_ALL)
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Case]:
    make, name = request.param
    broker = Mosquitto(None, free_port(), tmp_path) if name == "mosquitto" else Iotcore(tmp_path)
    with broker:
        old = isinstance(broker, Iotcore) and make is PahoTransport
        yield Case(make, broker, broker.port_311 if old else broker.port)


def publish(port: int, messages: list[tuple[str, bytes]], window: int = 100, **properties: object) -> None:
    """Publish at QoS 1 and wait for every acknowledgement."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as sock:
        sock.sendall(mqtt5.ConnectPacket(f"publisher-{free_port()}", clean_start=True, keep_alive=60).write())
        rest = _read_packets(sock, b"", 1)
        for start in range(0, len(messages), window):
            part = messages[start : start + window]
            packets = (
                mqtt5.PublishPacket(topic, payload, qos=mqtt5.QoS.AT_LEAST_ONCE, packet_id=n, **properties)
                for n, (topic, payload) in enumerate(part, 1)
            )
            sock.sendall(b"".join(packet.write() for packet in packets))
            rest = _read_packets(sock, rest, len(part))
        sock.sendall(mqtt5.DisconnectPacket().write())


def _read_packets(sock: socket.socket, data: bytes, count: int) -> bytes:
    while count:
        try:
            _, size = mqtt5.read(memoryview(data))
            data, count = data[size:], count - 1
        except IndexError:
            more = sock.recv(65_536)
            assert more, "the broker closed the publisher's connection"
            data += more
    return data


def packets_of(data: bytes | bytearray) -> list[tuple[int, bytes]]:
    """First byte and body of each MQTT packet, of either version."""
    packets, at = [], 0
    while at < len(data):
        kind, length, shift, start = data[at], 0, 0, at + 1
        while True:
            length |= (data[start] & 0x7F) << shift
            shift, start = shift + 7, start + 1
            if data[start - 1] < 0x80:
                break
        packets.append((kind, bytes(data[start : start + length])))
        at = start + length
    return packets


def pubacks_of(data: bytes | bytearray) -> list[int]:
    return [struct.unpack(">H", body[:2])[0] for kind, body in packets_of(data) if kind == PUBACK]


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.01)


async def connected(transport: Subscriber) -> None:
    await until(lambda: transport.connected)


async def collect(transport: Subscriber, count: int) -> list[Message]:
    messages: list[Message] = []
    async with asyncio.timeout(6):
        while len(messages) < count:
            messages += await transport.receive(count - len(messages))
    return messages


def payloads(messages: list[Message]) -> list[bytes]:
    return [message.payload for message in messages]


async def test_round_trip(case: Case) -> None:
    """A message arrives with its topic, bytes, flags, packet id, arrival time and connection."""
    async with case.transport() as transport:
        await connected(transport)
        # iotcore's 3.1.1 side breaks down at a message with MQTT 5 properties
        typed = case.make is CodecTransport or isinstance(case.broker, Mosquitto)
        await case.publish(
            b"\x00\xff\xe6", b"", **{"content_type": "application/senml+json"} if typed else {}
        )
        first, second = await collect(transport, 2)
    assert first == Message(
        TOPIC, b"\x00\xff\xe6", 12.5, first.content_type, first.packet_id, duplicate=False, retain=False
    )
    assert first.packet_id and second.packet_id and first.packet_id != second.packet_id
    assert second.payload == b""
    assert first.content_type == ("application/senml+json" if case.make is CodecTransport else None)


async def test_limit(case: Case) -> None:
    """`receive` hands out no more than asked for, in arrival order."""
    async with case.transport() as transport:
        await connected(transport)
        await case.publish(*[b"%d" % n for n in range(10)])
        messages = await collect(transport, 3)
        assert len(messages) == 3
        messages += await collect(transport, 7)
    assert payloads(messages) == [b"%d" % n for n in range(10)]


@on_mosquitto
async def test_retained(case: Case) -> None:
    """Retained messages are not asked for in MQTT 5; in 3.1.1 they come, and say that they are retained."""
    await case.publish(b"old", retain=True)
    async with case.transport() as transport:
        await connected(transport)
        await case.publish(b"new", retain=True)
        old = case.make is PahoTransport
        messages = await collect(transport, 2 if old else 1)
    assert [(m.payload, m.retain) for m in messages] == [(b"old", True)] * old + [(b"new", False)]


@on_mosquitto
async def test_retained_on_request(case: Case) -> None:
    """Who asks for retained messages gets them with every connect, marked as such."""
    await case.publish(b"old", retain=True)
    for _ in range(2):
        async with case.transport(retained=True) as transport:
            await connected(transport)
            (message,) = await collect(transport, 1)
            transport.acknowledge([message])
        assert (message.payload, message.retain) == (b"old", True)


@on_mosquitto
async def test_unacknowledged_comes_again(case: Case) -> None:
    """What was not acknowledged comes again after the connection is cut, marked DUP, on a new connection."""
    async with Proxy(case.port) as proxy, case.transport(proxy.port) as transport:
        await connected(transport)
        await case.publish(b"1", b"2")
        first = await collect(transport, 2)
        await proxy.cut()
        again = await collect(transport, 2)
    assert [(m.payload, m.packet_id, m.duplicate) for m in again] == [
        (m.payload, m.packet_id, True) for m in first
    ]
    assert again[0].connection > first[0].connection
    assert transport.sessions_lost == 0


async def test_buffered_is_not_handed_out_twice(case: Case) -> None:
    """What waited to be handed out when the connection was cut comes from the new connection only."""
    async with Proxy(case.port) as proxy, case.transport(proxy.port) as transport:
        await connected(transport)
        await case.publish(b"1", b"2", b"3")
        await collect(transport, 1)
        await until(lambda: len(transport._inbox) == 2)
        await proxy.cut()
        again = await collect(transport, 3)
        transport.acknowledge(again)
        await case.publish(b"4")
        last = await collect(transport, 1)
    assert payloads(again) == [b"1", b"2", b"3"]
    assert payloads(last) == [b"4"]


async def test_acknowledged_does_not_come_again(case: Case) -> None:
    """What was acknowledged before a clean end does not come again to the next process of this name."""
    async with case.transport() as transport:
        await connected(transport)
        await case.publish(b"1", b"2", b"3")
        messages = await collect(transport, 3)
        transport.acknowledge(messages[:2])
    async with case.transport() as transport:
        await connected(transport)
        await case.publish(b"4")
        assert payloads(await collect(transport, 2)) == [b"3", b"4"]


async def test_session_outlives_the_client(case: Case) -> None:
    """What is published while nobody is connected arrives at the next start, which is no lost session."""
    async with case.transport() as transport:
        await connected(transport)
    await case.publish(b"meanwhile")
    async with case.transport() as transport:
        assert payloads(await collect(transport, 1)) == [b"meanwhile"]
        assert transport.sessions_lost == 0


@on_mosquitto
async def test_session_outlives_the_broker(case: Case) -> None:
    """A Mosquitto that was stopped and started still has the session and what was not acknowledged."""
    async with case.transport() as transport:
        await connected(transport)
        await case.publish(b"1", b"2")
        messages = await collect(transport, 2)
        transport.acknowledge(messages[:1])
        assert await transport.round_trip(10)  # the broker has read what we sent before the ping
        await case.publish(b"3")
        await collect(transport, 1)
        case.broker.stop()
        case.broker.start()
        again = await collect(transport, 2)
    assert payloads(again) == [b"2", b"3"]
    assert transport.sessions_lost == 0


async def test_lost_session_is_counted(case: Case) -> None:
    """A broker that comes back without our session is counted and logged, and we are subscribed again."""
    with capture_logs() as logs:
        async with case.transport() as transport:
            await connected(transport)
            if isinstance(case.broker, Mosquitto):
                case.broker.kill()
                case.broker.forget()
            else:
                case.broker.stop()
            await until(lambda: not transport.connected)
            case.broker.start()
            await connected(transport)
            await case.publish(b"new")
            assert payloads(await collect(transport, 1)) == [b"new"]
        assert transport.sessions_lost == 1
    assert "session_lost" in [log["event"] for log in logs]


async def test_a_session_lost_while_nobody_was_connected_is_counted(case: Case) -> None:
    """Whoever is told that its name had a session counts it as lost if the first connect finds none, and only then."""
    async with case.transport() as transport:
        await connected(transport)
        assert transport.sessions_lost == 0
    if isinstance(case.broker, Mosquitto):
        case.broker.kill()
        case.broker.forget()
    else:
        case.broker.stop()
    case.broker.start()
    for lost in (1, 0):
        transport = case.transport()
        transport.had_session = True
        async with transport:
            await connected(transport)
            assert transport.sessions_lost == lost


@on_mosquitto
async def test_packet_ids_are_reused(case: Case) -> None:
    """More messages than there are packet ids arrive, once each, when each is acknowledged."""
    count = 70_000 if case.make is CodecTransport else 2_000
    async with case.transport() as transport:
        await connected(transport)
        task = asyncio.create_task(
            asyncio.to_thread(publish, case.port, [(TOPIC, b"%d" % n) for n in range(count)], window=2_000)
        )
        seen: list[bytes] = []
        async with asyncio.timeout(60):
            while len(seen) < count:
                messages = await transport.receive(1_000)
                seen += payloads(messages)
                transport.acknowledge(messages)
        await task
    assert seen == [b"%d" % n for n in range(count)]


async def test_subscribes_on_every_connect(case: Case) -> None:
    """Every connection subscribes, with a session too, and none unsubscribes."""
    async with Proxy(case.port) as proxy:
        async with case.transport(proxy.port) as transport:
            for _ in range(3):
                await connected(transport)
                await proxy.cut()
                await until(lambda: not transport.connected)
            await connected(transport)
        kinds = [[kind for kind, _ in packets_of(sent)] for sent in proxy.sent]
    assert [each.count(SUBSCRIBE) for each in kinds] == [1, 1, 1, 1]
    assert not any(UNSUBSCRIBE in each for each in kinds)


@on_mosquitto
async def test_more_than_the_window(case: Case) -> None:
    """Messages that were in flight under a larger window all arrive when the session comes back."""
    async with case.transport(batch_readings=20_000) as transport:
        await connected(transport)
        await case.publish(*[b"%d" % n for n in range(500)])
        await collect(transport, 500)
    async with case.transport(batch_readings=1) as transport:
        assert transport._settings.receive_maximum == 100
        again: list[Message] = []
        async with asyncio.timeout(5):
            while len(again) < 500:
                messages = await transport.receive(500)
                transport.acknowledge(messages)
                again += messages
    assert payloads(again) == [b"%d" % n for n in range(500)]


async def test_broker_that_never_answers(case: Case) -> None:
    """A broker that accepts TCP and is silent is given up and tried again, until it answers."""
    patience = Patience(answer_seconds=0.3, first_retry_seconds=0.05, longest_retry_seconds=0.2)
    async with Proxy(case.port) as proxy:
        proxy.hold()
        with capture_logs() as logs:
            async with case.transport(proxy.port, patience) as transport:
                await until(lambda: len(proxy.sent) > 2)
                assert not transport.connected
                proxy.resume()
                await connected(transport)
    assert logs[0]["event"] == "broker_unreachable"


async def test_broker_that_falls_silent(case: Case) -> None:
    """A connection on which nothing comes any more is given up, and what was in flight comes again."""
    patience = Patience(1, 2, 0.05, 0.2)
    async with Proxy(case.port) as proxy, case.transport(proxy.port, patience) as transport:
        await connected(transport)
        await case.publish(b"1")
        await collect(transport, 1)
        proxy.hold()
        await until(lambda: not transport.connected)
        proxy.resume()
        assert payloads(await collect(transport, 1)) == [b"1"]


def test_reset_behind_messages() -> None:
    """A reset is seen at once on the loop that the service runs on, also by MQTT 3.1.1 with messages before it."""

    async def scene(listener: socket.socket) -> None:
        settings = Settings(mqtt_url=f"mqtt://127.0.0.1:{listener.getsockname()[1]}", mqtt_version="3.1.1")
        async with PahoTransport(settings, [FILTER], "test-0", patience=QUICK) as transport:
            sock = await asyncio.to_thread(greet, listener)
            await connected(transport)
            sock.sendall(b"".join(b"\x32\x06\x00\x01a\x00" + bytes([n]) + b"x" for n in range(1, 4)))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.close()
            await until(lambda: not transport.connected)

    def greet(listener: socket.socket) -> socket.socket:
        sock = listener.accept()[0]
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # what waits would be lost with the reset
        sock.recv(1000)
        sock.sendall(b"\x20\x02\x00\x00")
        packet_id = sock.recv(1000)[2:4]
        sock.sendall(b"\x90\x03" + packet_id + b"\x01")
        return sock

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(5)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(scene(listener))


async def test_refused_connection_is_tried_again(case: Case) -> None:
    """A broker that is away is tried until it is back."""
    async with Proxy(case.port) as proxy:
        await proxy.stop()
        with capture_logs() as logs:
            async with case.transport(proxy.port) as transport:
                await until(lambda: len(logs) > 2)
                await proxy.start()
                await connected(transport)
    assert {log["event"] for log in logs[:2]} == {"broker_unreachable"}


@on_mosquitto
async def test_acknowledgement_of_an_earlier_connection(case: Case) -> None:
    """A message of an earlier connection is not acknowledged on this one."""
    async with Proxy(case.port) as proxy, case.transport(proxy.port) as transport:
        await connected(transport)
        await case.publish(b"1", b"2")
        old = await collect(transport, 2)
        await proxy.cut()
        new = await collect(transport, 2)
        transport.acknowledge(old)
        transport.acknowledge(new[:1])
        await until(lambda: pubacks_of(proxy.sent[1]))
        assert pubacks_of(proxy.sent[1]) == [new[0].packet_id]


async def test_acknowledges_in_order(case: Case) -> None:
    """PUBACKs go out in order of arrival, over several calls."""
    async with Proxy(case.port) as proxy, case.transport(proxy.port) as transport:
        await connected(transport)
        await case.publish(*[b"%d" % n for n in range(50)])
        messages = await collect(transport, 50)
        for start in range(0, 50, 10):
            transport.acknowledge(messages[start : start + 10])
        await until(lambda: len(pubacks_of(proxy.sent[0])) == 50)
        assert pubacks_of(proxy.sent[0]) == [m.packet_id for m in messages]
        await case.publish(b"last")
        assert payloads(await collect(transport, 1)) == [b"last"]


@on_mosquitto
async def test_senders_take_turns(case: Case) -> None:
    """Whoever comes behind a flood is handed out soon after, and acknowledged when all before it is committed."""
    late = "ganzhi/v1/370100/gw-2/telemetry"
    flood = [b"%06d" % n + bytes(10_000) for n in range(TAKE_BYTES // 2_000)]
    async with Proxy(case.port) as proxy, case.transport(proxy.port) as transport:
        await connected(transport)
        await asyncio.to_thread(publish, case.port, [*((TOPIC, payload) for payload in flood), (late, b"1")])
        await until(lambda: len(transport._inbox) == len(flood) + 1)
        first = await transport.receive(500)
        assert late in [message.topic for message in first]
        assert len(first) < len(flood) / 2
        rest = await collect(transport, len(flood) + 1 - len(first))
        assert payloads([m for m in first + rest if m.topic == TOPIC]) == flood
        transport.acknowledge(rest)
        transport.acknowledge(first)
        await until(lambda: len(pubacks_of(proxy.sent[0])) == len(flood) + 1)
        arrived = [m for m in first + rest if m.topic == TOPIC] + [m for m in first if m.topic == late]
        assert pubacks_of(proxy.sent[0]) == [message.packet_id for message in arrived]
        assert transport.waiting_since() is None


@on_mosquitto
async def test_committed_before_its_turn_comes_again(case: Case) -> None:
    """What is committed before what came earlier is not acknowledged, and comes again when the connection breaks."""
    async with Proxy(case.port) as proxy, case.transport(proxy.port) as transport:
        await connected(transport)
        await case.publish(b"1", b"2", b"3")
        first = await collect(transport, 3)
        transport.acknowledge(first[1:])
        assert await transport.round_trip(5)
        await proxy.cut()
        again = await collect(transport, 3)
        transport.acknowledge(first[:1])
        transport.acknowledge(again)
        await until(lambda: len(pubacks_of(proxy.sent[1])) == 3)
    assert pubacks_of(proxy.sent[0]) == []
    assert [(m.payload, m.packet_id, m.duplicate) for m in again] == [
        (m.payload, m.packet_id, True) for m in first
    ]


@on_mosquitto
async def test_qos_0(case: Case) -> None:
    """A message published at QoS 0 has no packet id and is not acknowledged."""
    async with Proxy(case.port) as proxy, case.transport(proxy.port) as transport:
        await connected(transport)
        with socket.create_connection(("127.0.0.1", case.broker.port)) as sock:
            sock.sendall(mqtt5.ConnectPacket("qos-0", keep_alive=60).write())
            _read_packets(sock, b"", 1)
            sock.sendall(mqtt5.PublishPacket(TOPIC, b"0").write())
            (message,) = await collect(transport, 1)
        transport.acknowledge([message])
        await case.publish(b"1")
        (last,) = await collect(transport, 1)
        transport.acknowledge([last])
        await until(lambda: pubacks_of(proxy.sent[0]))
        assert (message.packet_id, pubacks_of(proxy.sent[0])) == (None, [last.packet_id])


@on_mosquitto
async def test_backpressure(case: Case) -> None:
    """Above the limit of unacknowledged bytes nothing is read, the connection stays, and all arrives later."""
    patience = Patience(2, 1, 0.05, 0.2)
    big = [bytes([n]) * 100_000 for n in range(200)]
    async with Proxy(case.port) as proxy, case.transport(proxy.port, patience) as transport:
        transport._inbox._window_bytes = 1_000_000
        await connected(transport)
        await case.publish(*big)
        await until(lambda: transport._inbox.full)
        pings = sum(kind == PINGREQ for kind, _ in packets_of(proxy.sent[0]))
        await until(lambda: sum(kind == PINGREQ for kind, _ in packets_of(proxy.sent[0])) >= pings + 6)
        assert transport.connected
        assert len(transport._inbox) < 20
        seen: list[bytes] = []
        async with asyncio.timeout(6):
            while len(seen) < 200:
                messages = await transport.receive(50)
                transport.acknowledge(messages)
                seen += payloads(messages)
        assert len(proxy.sent) == 1
    assert seen == big


async def test_stop_receiving(case: Case) -> None:
    """After `stop_receiving` nothing more is read, acknowledgements go out, and the session stays."""
    async with case.transport() as transport:
        await connected(transport)
        await case.publish(b"1", b"2")
        messages = await collect(transport, 2)
        transport.stop_receiving()
        await case.publish(b"3")
        assert await transport.receive(10) == []
        transport.acknowledge(messages)
    async with case.transport() as transport:
        assert payloads(await collect(transport, 1)) == [b"3"]


async def test_stop_receiving_wakes_the_reader(case: Case) -> None:
    """A reader that waits is told that nothing more comes, with a broker and without."""
    async with Proxy(case.port) as proxy:
        for up in (True, False):
            if not up:
                await proxy.stop()
            async with case.transport(proxy.port) as transport:
                if up:
                    await connected(transport)
                reader = asyncio.create_task(transport.receive(1))
                await asyncio.sleep(0)
                transport.stop_receiving()
                assert await reader == []


@on_mosquitto
async def test_share_group(case: Case) -> None:
    """Members of a share group get each message once between them."""
    one = case.make(Settings(mqtt_url=f"mqtt://127.0.0.1:{case.port}", share_group="g"), [FILTER], "test-1")
    two = case.make(Settings(mqtt_url=f"mqtt://127.0.0.1:{case.port}", share_group="g"), [FILTER], "test-2")
    async with one, two:
        await connected(one)
        await connected(two)
        await case.publish(*[b"%d" % n for n in range(20)])
        seen = payloads(await collect(one, 10) + await collect(two, 10))
    assert sorted(seen) == sorted(b"%d" % n for n in range(20))


@pytest.mark.parametrize("make", [CodecTransport, PahoTransport])
@pytest.mark.parametrize("broker", [pytest.param(None, marks=needs_mosquitto)])
async def test_refused_by_the_broker(make: type[Subscriber], broker: None, tmp_path: Path) -> None:
    """A refusal says why and what to do, never the password, and is tried again."""
    port = free_port()
    config = mosquitto_config(port, tmp_path).replace("allow_anonymous true", "allow_anonymous false")
    url = f"mqtt://someone:s3cret@127.0.0.1:{port}"
    with Mosquitto(config, port, tmp_path), capture_logs() as logs:
        async with make(Settings(mqtt_url=url), [FILTER], "test-0", patience=QUICK) as transport:
            await until(lambda: len(logs) > 1)
            assert not transport.connected
    assert [log["event"] for log in logs[:2]] == ["broker_refused"] * 2
    assert "GANZHI_MQTT_URL" in logs[0]["advice"] or "access list" in logs[0]["advice"]
    assert "s3cret" not in str(logs)


@on_mosquitto
async def test_two_of_one_name(case: Case) -> None:
    """The client that another of its name throws out says what to look at, and comes back later."""
    async with case.transport() as first:
        await connected(first)
        with capture_logs() as logs:
            async with case.transport():
                await until(lambda: [log for log in logs if log["event"] == "broker_lost"])
    lost = next(log for log in logs if log["event"] == "broker_lost")
    assert "GANZHI_CLIENT_ID" in lost["advice"]


def _openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def certificates(tmp_path: Path) -> Path:
    """A CA, and a server's certificate for `localhost` only."""
    for name, subject in (("ca", "/CN=test ca"), ("other", "/CN=other ca")):
        _openssl(tmp_path, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", f"{name}.key", "-out",
                 f"{name}.crt", "-days", "2", "-subj", subject)  # fmt: skip
    (tmp_path / "san").write_text("subjectAltName=DNS:localhost\n")
    _openssl(tmp_path, "req", "-newkey", "rsa:2048", "-nodes", "-keyout", "server.key", "-out", "server.csr",
             "-subj", "/CN=localhost")  # fmt: skip
    _openssl(tmp_path, "x509", "-req", "-in", "server.csr", "-CA", "ca.crt", "-CAkey", "ca.key",
             "-CAcreateserial", "-out", "server.crt", "-days", "2", "-extfile", "san")  # fmt: skip
    return tmp_path


@pytest.mark.parametrize("make", [CodecTransport, PahoTransport])
@pytest.mark.parametrize("broker", [pytest.param(None, marks=needs_mosquitto)])
async def test_tls(make: type[Subscriber], broker: None, certificates: Path) -> None:
    """TLS connects under the certificate's own name and CA; another name or CA is refused."""
    port = free_port()
    config = mosquitto_config(port, certificates) + "".join(
        f"{option} {certificates / name}\n"
        for option, name in (("cafile", "ca.crt"), ("certfile", "server.crt"), ("keyfile", "server.key"))
    )
    with Mosquitto(config, port, certificates):
        for host, ca, good in (
            ("localhost", "ca", True),
            ("127.0.0.1", "ca", False),
            ("localhost", "other", False),
        ):
            settings = Settings(mqtt_url=f"mqtts://{host}:{port}", mqtt_ca=certificates / f"{ca}.crt")
            with capture_logs() as logs:
                async with make(settings, [FILTER], "test-0", patience=QUICK) as transport:
                    await until(lambda seen=logs: seen)
                    assert (logs[0]["event"] == "broker_connected") is good
                    assert good or "certificate verify failed" in logs[0]["reason"].lower()
                    if good:
                        await connected(transport)


@contextlib.asynccontextmanager
async def scripted(*answers: bytes):
    """A server that sends each connection CONNACK and then, for each further packet, the next answer."""
    script = iter(answers)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            await reader.read(65_536)
            writer.write(mqtt5.ConnAckPacket(session_present=True).write())
            while (data := await reader.read(65_536)) and data[0] != DISCONNECT:
                writer.write(next(script, b""))
        writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


def suback(packet_id: int, code: mqtt5.SubAckReasonCode) -> bytes:
    return mqtt5.SubAckPacket(packet_id, [code]).write()


async def test_refused_subscription() -> None:
    """A refused subscription is an error with advice, is tried again, and until then we are not connected."""
    codes = mqtt5.SubAckReasonCode
    answers = (
        suback(1, codes.NOT_AUTHORIZED),
        suback(2, codes.SHARED_SUBSCRIPTIONS_NOT_SUPPORTED),
        suback(3, codes.GRANTED_QOS_AT_LEAST_ONCE),
    )
    with capture_logs() as logs:
        async with scripted(*answers) as port:
            settings = Settings(mqtt_url=f"mqtt://127.0.0.1:{port}")
            async with CodecTransport(settings, [FILTER], "test-0", patience=QUICK) as transport:
                await connected(transport)
    refused = [log for log in logs if log["event"] == "subscription_refused"]
    assert [log["code"] for log in refused] == ["0x87", "0x9E"]
    assert "access list" in refused[0]["advice"] and "GANZHI_SHARE_GROUP" in refused[1]["advice"]
    assert all(log["log_level"] == "error" for log in refused)


async def test_session_taken_over() -> None:
    """A client told that its session was taken over waits at least 5 s and says so."""
    taken = mqtt5.DisconnectPacket(reason_code=mqtt5.DisconnectReasonCode.SESSION_TAKEN_OVER).write()
    with capture_logs() as logs:
        async with scripted(taken) as port:
            settings = Settings(mqtt_url=f"mqtt://127.0.0.1:{port}")
            async with CodecTransport(settings, [FILTER], "test-0", patience=QUICK):
                await until(lambda: len(logs) > 1)
    assert "session_taken_over" in logs[1]["reason"]
    assert logs[1]["retry_in_seconds"] >= 5
    assert "GANZHI_CLIENT_ID" in logs[1]["advice"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the codec's panic
@pytest.mark.parametrize(
    "garbage",
    [
        b"\x00\x00",
        b"\x36\x05\x00\x01a\x00\x01",
        b"\x30\xff\xff\xff\xff\xff",
        b"\x32\x08\x00\x03\xff\xfe\xfd\x00\x01\x00",
        mqtt5.PubRelPacket(1).write(),
    ],
    ids=["type 0", "QoS 3", "length", "topic not UTF-8", "PUBREL"],
)
async def test_malformed_packet(garbage: bytes) -> None:
    """A packet that is not MQTT, or not for us, ends the connection with a log line, and we connect again."""
    granted = suback(1, mqtt5.SubAckReasonCode.GRANTED_QOS_AT_LEAST_ONCE)
    with capture_logs() as logs:
        async with scripted(granted + garbage, granted) as port:
            settings = Settings(mqtt_url=f"mqtt://127.0.0.1:{port}")
            async with CodecTransport(settings, [FILTER], "test-0", patience=QUICK) as transport:
                await until(lambda: len(logs) > 2)
                await connected(transport)
    assert [log["event"] for log in logs] == ["broker_connected", "broker_lost", "broker_connected"]
    assert "from the broker" in logs[1]["reason"]


@given(
    sizes=st.lists(st.integers(0, 20_000) | st.sampled_from([READ_BYTES, 5 * READ_BYTES]), max_size=6),
    cuts=st.lists(st.integers(100, 9_000) | st.just(READ_BYTES), min_size=1, max_size=8),
)
def test_packets_in_pieces(sizes: list[int], cuts: list[int]) -> None:
    """However the network cuts the bytes, the same messages come out."""

    async def feed() -> list[int]:
        inbox = Inbox()
        link = Link(inbox, lambda: 0.0)
        data = b"".join(
            mqtt5.PublishPacket("t", bytes(size), qos=mqtt5.QoS.AT_LEAST_ONCE, packet_id=1).write()
            for size in sizes
        )
        at = turn = 0
        while at < len(data):
            room = link.get_buffer(-1)
            piece = data[at : at + min(len(room), cuts[turn % len(cuts)])]
            room[: len(piece)] = piece
            link.buffer_updated(len(piece))
            at, turn = at + len(piece), turn + 1
        taken: list[int] = []
        while len(taken) < len(sizes):
            taken += [len(message.payload) for message in await inbox.take(10)]
        return taken

    assert asyncio.run(feed()) == sizes


def test_backoff_doubles_to_its_limit() -> None:
    """Pauses lie below a ceiling that doubles up to the longest; a connection that outlasts it begins anew."""
    patience = Patience(first_retry_seconds=0.2, longest_retry_seconds=30)
    backoff = Backoff(patience)
    ceilings = [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30, 30]
    assert all(0 <= backoff.pause_seconds() <= ceiling for ceiling in ceilings)
    backoff.worked(29)
    assert backoff.ceiling_seconds == 30
    backoff.worked(31)
    assert backoff.ceiling_seconds == 0.2
