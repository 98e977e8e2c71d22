"""Routes: which topics are subscribed, what each is called and who decodes it; data, not code.

A filter in the routes file names the levels that say where a message is from:
`ganzhi/v1/{division}/{gateway}/telemetry`. The MQTT filter and the places follow from it.
A route's decoder is one of the service's, or a mapping of the same file (`schemas.mapping`). The file may also say
how the transparent bytes of a CTWing product are read (`schemas.nbiot.frame`), and which of Huawei's services put
their name into that of a metric (`schemas.nbiot.iotda`).
"""

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple, Self

import msgspec

from schemas.mapping import compile_mapping
from schemas.mapping_rule import MappingError, Rule
from schemas.nbiot.draft import Hook
from schemas.nbiot.frame import Field, FrameError, hook
from schemas.reading import Decoder
from schemas.topic import GATEWAY, filters_overlap, matches

_NAME = r"[a-z][a-z0-9_]*"
_LEVEL = re.compile(rf"\{{(?P<name>{_NAME})\}}|\+|[^+#{{}}]*")
_DIVISION = re.compile(r"[0-9]{6}")
_GATEWAY = re.compile(GATEWAY)


class RoutesError(ValueError):
    """A routes file that can't work; the text says which route and why."""


class Place(NamedTuple):
    """Where a message is from, as far as its topic says; None where it doesn't, or not in the right form."""

    division: int | None
    gateway: str | None


class Route(NamedTuple):
    """One route: its MQTT filter, its label value, its decoder's name, and its named levels, from 0.

    `mapping` is the decoder, where the routes file itself says what it does.
    """

    filter: str
    name: str
    decoder: str
    places: Mapping[str, int]
    mapping: Decoder | None = None


class _Row(msgspec.Struct, forbid_unknown_fields=True):
    filter: str
    name: str
    decoder: str


class _Iotda(msgspec.Struct, forbid_unknown_fields=True):
    services_apart: frozenset[str] = frozenset()


class _File(msgspec.Struct, forbid_unknown_fields=True):
    route: list[_Row] = []
    mapping: dict[str, list[Rule]] = {}
    ctwing: dict[str, list[Field]] = {}
    iotda: _Iotda | None = None


class Routes:
    """All routes; at most one matches a topic. `hooks` read CTWing's transparent bytes, by product id.

    `services_apart`: services of Huawei's whose metrics are named with them.
    """

    def __init__(
        self,
        routes: Sequence[Route],
        hooks: Mapping[str, Hook] = MappingProxyType({}),
        services_apart: frozenset[str] = frozenset(),
    ) -> None:
        """Raises `RoutesError` when there is nothing in it, or two routes take the same topic."""
        self._routes = tuple(routes)
        self.hooks = hooks
        self.services_apart = services_apart
        if not routes and not hooks and not services_apart:
            raise RoutesError("no route: nothing would be subscribed")
        if overlap := filters_overlap(self.filters):
            raise RoutesError(f"filters {overlap[0]} and {overlap[1]} overlap: a message would come twice")

    @classmethod
    def from_file(cls, path: Path) -> Self:
        """Routes of a TOML file. Raises `RoutesError`, also when the file can't be read."""
        try:
            return cls._parse(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise RoutesError(f"routes file {path}: {error}") from error

    @classmethod
    def default(cls) -> Self:
        """The routes that come with the service."""
        return cls._parse(files("schemas").joinpath("data/routes.toml").read_text(encoding="utf-8"))

    @classmethod
    def load(cls, more: Path | None) -> Self:
        """The service's routes and, if there is a file of one's own, those in it. Raises `RoutesError`."""
        own = cls.default()
        if more is None:
            return own
        theirs = cls.from_file(more)
        return cls([*own, *theirs], theirs.hooks, theirs.services_apart)

    @classmethod
    def _parse(cls, text: str) -> Self:
        try:
            file = msgspec.convert(tomllib.loads(text), _File)
        except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
            raise RoutesError(str(error)) from error
        if idle := file.mapping.keys() - {row.decoder for row in file.route}:
            raise RoutesError(f"mapping {min(idle)!r} is no route's decoder")
        routes = [_mapped(_route(row), file.mapping.get(row.decoder)) for row in file.route]
        hooks = {product: _hook(product, fields) for product, fields in file.ctwing.items()}
        return cls(routes, hooks, file.iotda.services_apart if file.iotda else frozenset())

    @property
    def filters(self) -> tuple[str, ...]:
        """The MQTT filters, for SUBSCRIBE."""
        return tuple(route.filter for route in self._routes)

    @property
    def names(self) -> tuple[str, ...]:
        """The routes' label values."""
        return tuple(route.name for route in self._routes)

    def __iter__(self) -> Iterator[Route]:
        return iter(self._routes)

    def match(self, topic: str) -> Route | None:
        """The route that takes a topic."""
        return next((route for route in self._routes if matches(route.filter, topic)), None)

    def sender(self, topic: str) -> str:
        """Whose messages keep their order, over all of its topics: the gateway, or Sparkplug's edge node in its group.

        A topic that names neither stands for itself.
        """
        route, levels = self.match(topic), topic.split("/")
        places = route.places if route else {}
        named = [levels[places[name]] for name in ("gateway", "group", "edge") if name in places]
        return "/".join(named) or topic

    @staticmethod
    def place(topic: str, route: Route) -> Place:
        """The division and gateway that a topic of this route names.

        None for a level that the route doesn't name, and for one that breaks its form (six digits,
        `GATEWAY`): `bad_topic`. Whether the division exists is not known here.
        """
        levels = topic.split("/")
        division, gateway = (levels[route.places[n]] if n in route.places else "" for n in Place._fields)
        return Place(
            int(division) if _DIVISION.fullmatch(division) else None,
            gateway if _GATEWAY.fullmatch(gateway) else None,
        )


def _route(row: _Row) -> Route:
    """A row of the file, checked. Raises `RoutesError`."""
    parts = row.filter.split("/")
    body = parts[:-1] if parts[-1] == "#" else parts
    levels = [_LEVEL.fullmatch(part) for part in body]
    if not row.filter or parts[0] == "$share" or None in levels:
        raise RoutesError(f"filter {row.filter!r}: + and {{name}} fill a level, # ends it, no share group")
    for name in (row.name, row.decoder):
        if not re.fullmatch(_NAME, name):
            raise RoutesError(
                f"filter {row.filter!r}: name {name!r} must be lower-case letters, digits and _"
            )
    names = [level["name"] for level in levels if level]
    if repeated := next((name for name in names if name and names.count(name) > 1), None):
        raise RoutesError(f"filter {row.filter!r}: {{{repeated}}} stands twice")
    mqtt = "/".join("+" if part.startswith("{") else part for part in parts)
    places = {name: level for level, name in enumerate(names) if name}
    return Route(mqtt, row.name, row.decoder, places)


def _mapped(route: Route, rules: Sequence[Rule] | None) -> Route:
    """The route with its mapping, if it has one. Raises `RoutesError`."""
    if rules is None:
        return route
    try:
        return route._replace(mapping=compile_mapping(rules, route.name, route.places))
    except MappingError as error:
        raise RoutesError(f"mapping {route.decoder!r}: {error}") from error


def _hook(product: str, fields: Sequence[Field]) -> Hook:
    """What reads the bytes of a CTWing product. Raises `RoutesError`."""
    try:
        return hook(fields)
    except FrameError as error:
        raise RoutesError(f"ctwing product {product!r}: {error}") from error
