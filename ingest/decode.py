"""A message to its parts: topic -> route -> decoder. What has no way to a decoder is refused as a whole."""

from collections.abc import Mapping
from typing import NamedTuple

import structlog

from devices.division import PROVINCE, city, today
from devices.registry import Gateway, Registry
from ingest.settings import GatewayDivision, Settings, SettingsError
from schemas import presence, sparkplug_message, telemetry
from schemas.message import Message
from schemas.nbiot import ctwing, iotda, onenet
from schemas.payload import Unreadable, check_count
from schemas.reading import Decoder, Part
from schemas.rejection import Reason, Refusal
from schemas.routes import Place, Route, Routes
from schemas.topic import LONGEST_CHARACTERS

log = structlog.get_logger()
NO_ROUTE = "none"
"""The route label of messages that no route takes."""
NOWHERE = Place(None, None)
TOPICS_MAX = 100_000
"""Topics remembered; a province has tens of thousands of gateways."""


def decoders(settings: Settings | None = None) -> dict[str, Decoder]:
    """The decoders, by the name that the routes file uses; without settings they hold no secrets and no hooks.

    Raises `RoutesError`.
    """
    routes = Routes.load(settings.routes if settings else None)
    secrets = (settings.onenet_token, settings.onenet_aes_key) if settings else ()
    return {
        "telemetry": telemetry.decode,
        "presence": presence.decode,
        "sparkplug": sparkplug_message.decode,
        "ctwing": ctwing.decoder(routes.hooks),
        "iotda": iotda.decoder(routes.services_apart),
        "onenet": onenet.decoder(*(secret.get_secret_value() if secret else "" for secret in secrets)),
    }


DECODERS: Mapping[str, Decoder] = decoders()


class Way(NamedTuple):
    """Where messages of one topic go: their route's name, their place, a decoder or none, a refusal or none."""

    route: str
    place: Place
    decoder: Decoder | None
    refusal: Refusal | None


class Decode:
    """Messages to parts, by routes; `registry` says which gateways are known, `by_name` are the decoders."""

    def __init__(
        self,
        routes: Routes,
        max_payload_bytes: int,
        registry: Registry,
        *,
        only_known_gateways: bool = False,
        gateway_division: GatewayDivision = GatewayDivision.CITY,
        by_name: Mapping[str, Decoder] = DECODERS,
    ) -> None:
        for route in routes:
            if not route.mapping and route.decoder not in by_name:
                raise SettingsError(f"GANZHI_ROUTES: route {route.filter!r}: no decoder or mapping is called "
                                    f"{route.decoder!r}; decoders: {', '.join(by_name)}")  # fmt: skip
            own = not route.mapping and route.decoder == "sparkplug"
            if own and not route.filter.startswith(sparkplug_message.PREFIX):
                raise SettingsError(f"GANZHI_ROUTES: route {route.filter!r}: topics of Sparkplug begin with "
                                    f"{sparkplug_message.PREFIX}")  # fmt: skip
        self._routes = routes
        self._max_payload_bytes = max_payload_bytes
        self._registry = registry
        self._gateways = registry.gateways
        self._only_known_gateways = only_known_gateways
        self._gateway_division = gateway_division
        self._decoders = by_name
        self._ways: dict[str, Way] = {}
        self._known_routes = ", ".join(routes.filters)

    def __call__(self, message: Message) -> tuple[Way, list[Part]]:
        """The way of the message and its parts. Never raises on input."""
        if self._gateways is not self._registry.gateways:  # another mapping after every change
            self._gateways = self._registry.gateways
            self._ways.clear()
        way = self._ways.get(message.topic) or self._find(message.topic)
        large = len(message.payload) > self._max_payload_bytes
        if refusal := self._too_large(message) if large else way.refusal:
            return way, [Part(refusals=[refusal], absolute=False)]
        assert way.decoder is not None
        try:
            return way, bounded(way.decoder(message))
        except Exception as error:  # a decoder's fault costs its message, which is kept, never the service
            log.exception("decoder_failed", route=way.route, topic=message.topic)
            return way, [Part(refusals=[failed(error)], absolute=False)]

    def _too_large(self, message: Message) -> Refusal:
        return Refusal(None, Reason.TOO_LARGE, f"{len(message.payload)} bytes",
                       f"send at most {self._max_payload_bytes}, or raise GANZHI_MAX_PAYLOAD_BYTES")  # fmt: skip

    def _not_authorized(self, place: Place) -> Refusal | None:
        """Why this gateway may not publish here. A route without a gateway level (Sparkplug, some mappings) names
        none that could be registered.
        """
        gateway = self._gateways.get(place.gateway or "")
        if self._only_known_gateways and place.gateway is not None and not gateway:
            return Refusal(None, Reason.NOT_AUTHORIZED, f"gateway {place.gateway!r} is not registered",
                           "ganzhi gateways add, or set GANZHI_UNKNOWN_GATEWAYS=accept")  # fmt: skip
        if gateway and not self._may_stand(gateway, place.division):
            return Refusal(None, Reason.NOT_AUTHORIZED, f"gateway {place.gateway!r} is registered in "
                           f"{gateway.division}, its topic says {place.division}", "correct the topic, or register "
                           "where it stands: ganzhi gateways add NAME --division CODE")  # fmt: skip
        return None

    def _may_stand(self, gateway: Gateway, division: int | None) -> bool:
        """Whether a registered gateway may publish under a division of today."""
        home = today(gateway.division) if gateway.division is not None else None
        if home is None or division is None or self._gateway_division is GatewayDivision.ACCEPT:
            return True
        if self._gateway_division is GatewayDivision.EXACT:
            return home in {division, city(division), PROVINCE}
        return city(home) == city(division) or PROVINCE in {home, division}

    def _find(self, topic: str) -> Way:
        if len(self._ways) >= TOPICS_MAX:
            self._ways.clear()
        way = self._way(topic)
        if way.decoder and len(topic) <= LONGEST_CHARACTERS:
            self._ways[topic] = way
        return way

    def _way(self, topic: str) -> Way:
        route = self._routes.match(topic)
        if route is None:
            refusal = Refusal(
                None, Reason.NO_ROUTE, "no route takes this topic", f"routes: {self._known_routes}"
            )
            return Way(NO_ROUTE, NOWHERE, None, refusal)
        return self._on_route(topic, route)

    def _on_route(self, topic: str, route: Route) -> Way:
        place = self._routes.place(topic, route)
        if "division" in route.places and (place.division is None or today(place.division) is None):
            detail, hint = (
                "its second level must be a division of Shandong",
                "six digits, GB/T 2260, such as 370102",
            )
            return Way(
                route.name, place._replace(division=None), None, Refusal(None, Reason.BAD_TOPIC, detail, hint)
            )
        if "gateway" in route.places and place.gateway is None:
            detail, hint = "the gateway's name is not usable", "1 to 64 of A-Z a-z 0-9 _ . -"
            return Way(route.name, place, None, Refusal(None, Reason.BAD_TOPIC, detail, hint))
        decoder = route.mapping or self._decoders[route.decoder]
        place = place._replace(division=today(place.division) if place.division is not None else None)
        return Way(route.name, place, decoder, self._not_authorized(place))


def bounded(parts: list[Part]) -> list[Part]:
    """The parts of a message, or its refusal where they hold more than one message may."""
    try:
        check_count(sum([len(part.values) + len(part.events) + len(part.refusals) for part in parts]))
    except Unreadable as fault:
        return [Part(refusals=[fault.refusal(None)], absolute=False)]
    return parts


def failed(error: Exception) -> Refusal:
    """The refusal of a message that a decoder failed at."""
    return Refusal(None, Reason.UNSUPPORTED, f"the decoder failed: {type(error).__name__}",
                   "a fault of this service: report it, and replay the rejection after the fix")  # fmt: skip
