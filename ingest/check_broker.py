"""The broker's side of `ganzhi check`: connect, a round trip, and the limits that throttle or lose.

Under client ids of its own, on a topic that no route takes, at the MQTT version that is set. A broker does
not say how much it keeps for an absent subscriber, and drops the rest without a word, so it is tried: a
subscriber leaves, messages are published, it comes back and counts. Its session is removed afterwards.
"""

import os
import secrets
import time
from collections.abc import Iterator

from ingest.check_doors import ending
from ingest.finding import Finding, fail, ok, warn
from ingest.mqtt import tls
from ingest.probe import ANSWER_SECONDS, Probe, UnreachableError
from ingest.publish import BrokerOutOfReachError, Outgoing, Publisher
from ingest.settings import Settings
from schemas.routes import Routes
from schemas.topic import matches

PROBE_MESSAGES = 1_100
"""Above 1,000, the default queue of Mosquitto, EMQX and HiveMQ."""
PROBE_EXPIRY_SECONDS = 60
"""A check that is killed leaves nothing for longer, on MQTT 5."""
QUIET_SECONDS = 0.6
"""Nothing for so long, or for 5 round trips, and the broker has sent what it will."""
ECHO_SECONDS = 2.0
VERSION_SECONDS = 0.5
PACKET_OVERHEAD_BYTES = 1_024
"""Topic, properties and header beside the payload, with room to spare."""
VERSION_TOPIC = "$SYS/broker/version"
TOPIC = "ganzhi/v1/370000/ganzhi-check/"
REJECTED = "ganzhi/v1/370000/ganzhi/rejected"
"""Nobody's: no gateway may have the service's name."""
ALLOW = f"allow it in the broker's access list; Mosquitto: topic readwrite {TOPIC}+"


def run(settings: Settings) -> Iterator[Finding]:
    """Everything about the broker; what needs a connection is left out without one."""
    host, port = settings.mqtt_host_port()
    topic = TOPIC + secrets.token_hex(6)
    try:
        yield from _certificate(settings)
        with Probe(settings, _name(settings, "check"), expiry_seconds=_session_seconds(settings)) as probe:
            trip = _round_trip(probe, topic)
            version = _version(probe)
            yield ok("broker", f"{host}:{port}, MQTT {settings.mqtt_version}, {version}")
            yield from _granted(settings, probe)
        yield from _telling(settings)
        if isinstance(trip, Finding):
            yield trip
            yield warn("broker's queue", "not tried, for the same reason", trip.advice)
        else:
            yield ok(
                "round trip", f"what is published comes back; the broker answers in {trip * 1000:.1f} ms"
            )
            yield from _limits(settings, topic, max(QUIET_SECONDS, 5 * trip))
    except UnreachableError as error:
        yield fail("broker", f"{host}:{port}: {error}", error.advice, out_of_reach=True)
    except BrokerOutOfReachError as error:
        yield fail("broker", str(error), "see the broker's log", out_of_reach=True)


def _name(settings: Settings, what: str) -> str:
    return f"{settings.client_id}-{what}-{os.getpid()}"


def _session_seconds(settings: Settings) -> int:
    return int(settings.session_hours * 3600)


def _certificate(settings: Settings) -> Iterator[Finding]:
    """When the broker's ends. Raises `UnreachableError` when there is no TLS with the broker."""
    if not settings.mqtt_tls:
        return
    try:
        end = tls.of_broker(settings, ANSWER_SECONDS)
    except OSError as error:
        raise UnreachableError(
            str(error) or type(error).__name__,
            f"check that the broker runs and speaks TLS at this port; {tls.ADVICE}",
        ) from None
    yield ending("broker's certificate", end)


def _granted(settings: Settings, probe: Probe) -> Iterator[Finding]:
    """What CONNACK grants, beside what the settings need (MQTT 5, section 3.2.2.3); 3.1.1 says nothing."""
    if settings.mqtt_version != "5":
        return
    granted = probe.granted
    if limit := granted.get("MaximumPacketSize"):
        yield _packet_size(settings.max_payload_bytes, int(limit))
    else:
        yield ok("packet size", "no limit of the broker's")
    seconds = int(granted.get("SessionExpiryInterval", _session_seconds(settings)))
    if seconds < _session_seconds(settings):
        yield warn("session expiry", f"the broker grants {seconds / 3600:g} h of {settings.session_hours:g} h: "
                   "what is published in a longer absence is lost",
                   "raise the broker's limit, or lower GANZHI_SESSION_HOURS to it")  # fmt: skip
    else:
        yield ok("session expiry", f"{settings.session_hours:g} h granted")
    if settings.share_group:
        yield _sharing(available=bool(granted.get("SharedSubscriptionAvailable", 1)))
    publishers = granted.get("ReceiveMaximum", 65_535)
    yield ok("publishers' window", f"a gateway may have {publishers:,} messages unacknowledged at once")


def _telling(settings: Settings) -> Iterator[Finding]:
    """Whether gateways may be told of refusals; 3.1.1 says nothing. On a connection of its own: some brokers close one,
    a worker's too, at a message that is not allowed.
    """
    filters = settings.topics or Routes.load(settings.routes).filters
    if settings.mqtt_version != "5" or any(matches(name, REJECTED) for name in filters):
        return
    with Probe(settings, _name(settings, "check-rejected")) as probe:
        answer = probe.publish(REJECTED, b"{}")
    if answer is None or answer.is_failure:
        yield warn("refusals", f"telling gateways of them is refused: {answer or 'no answer'}; some brokers then close "
                   "the worker's connection at each", "allow it in the broker's access list; Mosquitto: topic write "
                   "ganzhi/v1/+/+/rejected")  # fmt: skip


def _packet_size(payload_bytes: int, limit_bytes: int) -> Finding:
    if limit_bytes < payload_bytes + PACKET_OVERHEAD_BYTES:
        return warn("packet size", f"{limit_bytes:,} B at most, GANZHI_MAX_PAYLOAD_BYTES is {payload_bytes:,}: "
                    "what is larger costs its sender the connection and becomes no rejection",
                    f"raise it above {payload_bytes + PACKET_OVERHEAD_BYTES:,} (Mosquitto: max_packet_size), or lower "
                    " GANZHI_MAX_PAYLOAD_BYTES")  # fmt: skip
    return ok("packet size", f"{limit_bytes:,} B")


def _sharing(*, available: bool) -> Finding:
    if available:
        return ok("share group", "the broker has shared subscriptions")
    return fail("share group", "the broker has no shared subscriptions",
                "leave GANZHI_SHARE_GROUP empty, or switch them on in the broker")  # fmt: skip


def _round_trip(probe: Probe, topic: str) -> float | Finding:
    """Seconds in which the broker answers, once a message has come back; or why none does.

    Timed at SUBSCRIBE: what is published comes with its acknowledgement, and the second packet of the two
    waits for TCP's own, up to 40 ms.
    """
    begun = time.perf_counter()
    answers = probe.subscribe(topic)
    seconds = time.perf_counter() - begun
    if not answers or answers[0].is_failure:
        said = answers[0] if answers else "no answer"
        return warn("round trip", f"subscribing to {TOPIC}+ is refused: {said}", ALLOW)
    answer = probe.publish(topic, b"ganzhi check")
    if answer is None or answer.is_failure:
        return warn("round trip", f"publishing to {TOPIC}+ is refused: {answer or 'no answer'}", ALLOW)
    if probe.received(topic, ECHO_SECONDS) is None:
        return warn("round trip", f"what is published to {TOPIC}+ does not come back", ALLOW)
    return seconds


def _version(probe: Probe) -> str:
    """What the broker says it is. Asked last: some close the connection at a topic that begins with $."""
    probe.subscribe(VERSION_TOPIC)
    said = probe.received(VERSION_TOPIC, VERSION_SECONDS)
    return said.decode(errors="replace") if said else "which does not say its version"


def _limits(settings: Settings, topic: str, quiet_seconds: float) -> Iterator[Finding]:
    """How many messages the broker keeps for an absent subscriber, and how many it sends at once."""
    filters = settings.topics or Routes.load(settings.routes).filters
    if taken := next((name for name in filters if matches(name, topic)), None):
        yield warn("broker's queue", f"not tried: the service's own filter {taken} takes {topic}",
                   "name narrower filters in GANZHI_TOPICS")  # fmt: skip
        return
    window, total = _count(settings, topic, quiet_seconds)
    if window < min(settings.receive_maximum, PROBE_MESSAGES, total):
        yield warn("broker's window", f"at most {window:,} messages in flight to a worker, which asks for "
                   f"{settings.receive_maximum:,}: it waits for acknowledgements most of the time",
                   "lift the broker's limit; Mosquitto: max_inflight_messages 0")  # fmt: skip
    else:
        yield ok("broker's window", f"{window:,} messages in flight at once, a worker's window is the limit")
    if total < PROBE_MESSAGES:
        yield fail("broker's queue", f"of {PROBE_MESSAGES:,} messages for an absent worker {total:,} are kept; the "
                   "others are acknowledged to their gateway and lost",
                   "lift the broker's limit; Mosquitto: max_queued_messages 0 and max_queued_bytes 0")  # fmt: skip
    else:
        yield ok("broker's queue", f"{total:,} messages for an absent worker are kept, all that were tried")


def _count(settings: Settings, topic: str, quiet_seconds: float) -> tuple[int, int]:
    """Messages in flight at once, and in all, after an absence. Leaves no session."""
    name = _name(settings, "check-absent")
    try:
        with Probe(settings, name, expiry_seconds=PROBE_EXPIRY_SECONDS, keep=True) as probe:
            probe.subscribe(topic)
        with Publisher(settings, name="check-publish") as publisher:
            for _ in range(PROBE_MESSAGES):
                while not publisher.room(ANSWER_SECONDS):
                    pass
                publisher.publish(Outgoing(topic, b"ganzhi check"))
            publisher.wait()
        with Probe(settings, name, expiry_seconds=PROBE_EXPIRY_SECONDS, keep=True) as probe:
            return probe.quiet(quiet_seconds), probe.drain(PROBE_MESSAGES, quiet_seconds)
    finally:
        with Probe(settings, name):
            pass
