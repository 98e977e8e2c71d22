"""The inbox: turns of senders, the order of each, acknowledgements in order of arrival, and nothing that stays."""

from itertools import count, takewhile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ingest.mqtt.inbox import MESSAGE_BYTES, PACKET_IDS, TAKE_BYTES, TURN_BYTES, Inbox
from schemas.message import Message
from schemas.routes import Routes

FLOOD = [("flood", 5_000)] * (TAKE_BYTES // 5_000)
"""So much that the rest has to wait for turns."""
PAYLOADS = {size: bytes(size) for size in (0, 5_000, TAKE_BYTES)}


def messages_of(senders):
    return [Message(topic, bytes(size), float(n), packet_id=n + 1) for n, (topic, size) in enumerate(senders)]


def weight_bytes(messages):
    return sum(len(message.payload) + MESSAGE_BYTES for message in messages)


def take(inbox, limit):
    """What there is to take without waiting."""
    with pytest.raises(StopIteration) as done:
        inbox.take(limit).send(None)
    assert len(done.value.value) <= limit
    return done.value.value


def take_all(inbox, limit):
    """All that waits, taken so many at once."""
    taken = []
    while len(inbox):
        taken += take(inbox, limit)
    return taken


arrivals = st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 3 * TURN_BYTES)), max_size=60)


@settings(max_examples=60, deadline=None)
@given(arrivals)
def test_a_message_waits_for_turns(rest):
    """Before a message are handed out its sender's own, and of each other one no more than as many turns hold."""
    inbox, arrived = Inbox(), messages_of(FLOOD + rest)
    inbox.put(arrived)
    taken = take_all(inbox, 10**6)
    largest = max(weight_bytes([message]) for message in arrived)
    for place, message in enumerate(taken):
        before = taken[:place]
        own = weight_bytes(m for m in before if m.topic == message.topic)
        turns = own // TURN_BYTES + 1
        for other in {m.topic for m in before} - {message.topic}:
            assert weight_bytes(m for m in before if m.topic == other) <= turns * TURN_BYTES + largest


@settings(max_examples=60, deadline=None)
@given(arrivals, st.integers(1, 50), st.randoms(use_true_random=False), st.integers(1, 30))
def test_acknowledged_in_order_of_arrival(rest, limit, rng, size):
    """Whatever order it is committed in, what goes out is the longest beginning of the arrivals that is committed."""
    inbox, arrived = Inbox(), messages_of(FLOOD + rest)
    inbox.put(arrived)
    taken = take_all(inbox, limit)
    for topic in {message.topic for message in arrived}:
        own = [m.packet_id for m in arrived if m.topic == topic]
        assert [m.packet_id for m in taken if m.topic == topic] == own
    rng.shuffle(taken)
    acknowledged, committed = [], set()
    for begin in range(0, len(taken), size):
        piece = taken[begin : begin + size]
        committed |= {message.packet_id for message in piece}
        acknowledged += inbox.finish(piece)
        ready = takewhile(committed.__contains__, range(1, len(arrived) + 1))
        assert acknowledged == list(ready)
    assert len(acknowledged) == len(arrived)
    assert inbox._weight_bytes == 0


def test_small_queues_keep_their_order():
    """What can be handed out at once is handed out in order of arrival."""
    inbox, arrived = Inbox(), messages_of([("a", 10_000), ("b", 10), ("a", 10), ("b", 10)] * 5)
    inbox.put(arrived)
    assert take(inbox, 500) == arrived


def test_a_gateway_is_one_sender():
    """Of a gateway's topics, and of a Sparkplug node's, the order of all stays: numbering and births depend on it."""
    topics = [
        "ganzhi/v1/370102/gw/telemetry",
        "spBv1.0/g/NBIRTH/node",
        "ganzhi/v1/370102/gw/presence",
        "spBv1.0/g/DDATA/node/device",
        "nbiot/ctwing/bridge",
    ]
    inbox = Inbox(sender=Routes.default().sender)
    arrived = messages_of([(topics[n % len(topics)], 9_000) for n in range(200)])
    inbox.put(arrived)
    taken = take_all(inbox, 7)
    assert taken != arrived
    for begin in ("ganzhi", "spBv1.0", "nbiot"):
        assert [m for m in taken if m.topic.startswith(begin)] == [
            m for m in arrived if m.topic.startswith(begin)
        ]


def test_a_packet_id_that_comes_twice():
    """A broker that gives a packet id out twice gets two acknowledgements, neither before its message is committed."""
    inbox = Inbox()
    arrived = [Message("t", b"", 0.0, packet_id=number) for number in (5, 6, 5, 7)]
    inbox.put(arrived)
    take_all(inbox, 10)
    assert [inbox.finish([message]) for message in (arrived[1], arrived[0], arrived[3], arrived[2])] == [
        [],
        [5, 6],
        [],
        [5, 7],
    ]


def test_no_more_is_read_than_there_are_packet_ids():
    """All packet ids unacknowledged are a full window, however light; acknowledged, there is room again."""
    inbox = Inbox()
    arrived = [Message("t", b"", 0.0, packet_id=number) for number in range(PACKET_IDS + 1)]
    inbox.put(arrived[:-1])
    assert not inbox.full
    inbox.put(arrived[-1:])
    assert inbox.full
    take_all(inbox, 500)
    inbox.finish(arrived[1:])
    assert inbox.full
    inbox.finish(arrived[:1])
    assert inbox.slack


class Life(RuleBasedStateMachine):
    """An inbox through connections, beside a broker that gives the lowest free packet id to what it sends."""

    def __init__(self):
        super().__init__()
        self.inbox = Inbox()
        self.number = 0
        self.waiting, self.taken, self.sent = [], [], []
        """Not handed out; handed out and not committed; packet ids without an acknowledgement, as sent."""

    @rule(senders=st.lists(st.sampled_from("abc"), max_size=9), size=st.sampled_from(list(PAYLOADS)))
    def arrive(self, senders, size):
        messages = []
        for sender in senders:
            packet_id = next(n for n in count(1) if n not in self.sent)
            self.number += 1
            messages.append(Message(sender, PAYLOADS[size], self.number, packet_id=packet_id,
                                    connection=self.inbox.connection))  # fmt: skip
            self.sent.append(packet_id)
        self.waiting += messages
        self.inbox.put(messages)

    @precondition(lambda self: self.waiting)
    @rule(limit=st.integers(1, 5))
    def hand_out(self, limit):
        for message in take(self.inbox, limit):
            place = next(n for n, m in enumerate(self.waiting) if m.topic == message.topic)
            assert self.waiting.pop(place) is message
            self.taken.append(message)

    @precondition(lambda self: self.taken)
    @rule(data=st.data())
    def commit(self, data):
        order = data.draw(st.permutations(self.taken))
        number = data.draw(st.integers(1, len(order)))
        self.taken = order[number:]
        acknowledged = self.inbox.finish(order[:number])
        assert acknowledged == self.sent[: len(acknowledged)]
        del self.sent[: len(acknowledged)]
        current = [m.packet_id for m in self.taken + self.waiting if m.connection == self.inbox.connection]
        assert not self.sent or self.sent[0] in current

    @rule()
    def lose(self):
        self.inbox.forget()
        self.waiting, self.sent = [], []

    @invariant()
    def holds(self):
        assert len(self.inbox) == len(self.waiting)
        assert self.inbox._weight_bytes == weight_bytes(self.waiting + self.taken)
        assert self.inbox.waiting_since() == min((m.received_at for m in self.waiting), default=None)
        waiting = {message.topic for message in self.waiting}
        assert set(self.inbox._line_of_topic) | set(self.inbox._line_of_sender) <= waiting

    def teardown(self):
        """Closed, it hands out what it has, then says that it is over."""
        self.inbox.close()
        while self.waiting:
            self.hand_out(5)
        assert take(self.inbox, 5) == []
        assert self.inbox.finish(self.taken) == self.sent
        assert self.inbox._weight_bytes == 0


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=30, stateful_step_count=20, deadline=None)
