"""Why a connection to the broker ended or never came about, and what to do about it."""

ADVICE = {
    0x80: "see the broker's log for the reason",
    0x84: "set GANZHI_MQTT_VERSION to 3.1.1, the broker does not speak MQTT 5",
    0x85: "choose another GANZHI_CLIENT_ID, the broker does not take this one",
    0x86: "check user and password in GANZHI_MQTT_URL",
    0x87: "allow this user in the broker's access list",
    0x8F: "correct the topic filter in GANZHI_TOPICS or the routes file",
    0x97: "raise the broker's quota for this user",
    0x9E: "leave GANZHI_SHARE_GROUP empty, or switch shared subscriptions on in the broker",
    0xA2: "allow wildcard subscriptions in the broker",
}
"""What to do about a refusal, by reason code (MQTT 5, section 2.4); 3.1.1 knows 0x80 only for SUBACK."""
CLOSED_ADVICE = (
    "it is tried again; if this repeats, another client uses this name (give each worker its own "
    "GANZHI_CLIENT_ID) or the broker's log says why"
)
"""Mosquitto 2.0.11 and every 3.1.1 broker close without a word when a session is taken over."""


class BrokerLostError(Exception):
    """The connection is over, or never came about; says why and what to do."""

    def __init__(
        self, reason: str, advice: str = "", *, event: str = "broker_lost", taken_over: bool = False
    ) -> None:
        super().__init__(reason)
        self.advice = advice or "nothing to do, it is tried again"
        self.event = event
        self.taken_over = taken_over
