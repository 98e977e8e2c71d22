"""A simulated fleet: gateways, their terminals, and how both would be registered. Pure, by seed.

Codes, units and payload forms are as mixed as devices here send them.
"""

import itertools
import random
from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from typing import NamedTuple

from devices.division import city
from ingest import dialects
from ingest.dialects import PUSHES
from ingest.kinds import CAMERA, KIND_OF, KINDS, Kind
from ingest.scenario import Fleet, Scenario, counties

SENML_JSON, SENML_CBOR, PLAIN = "application/senml+json", "application/senml+cbor", "application/json"
BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
UNANNOUNCED_SHARE = 0.1
"""Gateways that send no content type, as over MQTT 3.1.1."""
VIDEO_EVERY = 20
"""One gateway of so many is a video platform."""
MIDNIGHT_SECONDS = 300
"""How long the burst after midnight lasts, of devices whose preset time nobody has spread."""
INSTALLED_FROM = date(2024, 1, 1)
"""Terminals were installed within a year from here, where a fleet does not say; long enough ago to count."""
TERMINAL_COLUMNS = ("code", "division", "domain", "profile", "network", "gateway", "report_every",
                    "installed_on", "smart")  # fmt: skip
GATEWAY_COLUMNS = ("name", "division", "kind", "owner")


class Terminal(NamedTuple):
    """One simulated terminal. `phase` (0..1) sets it apart from its kind; `spelling` picks its units.

    `report_seconds` is its real rhythm, 0: it has none. `talks` and `registered` as in `scenario.Fleet`.
    """

    code: str
    kind: Kind
    phase: float
    spelling: int
    report_seconds: int = 0
    talks: bool = True
    registered: bool = True


class Gateway(NamedTuple):
    """One simulated gateway. `content_type` is the form of its payloads; it announces it or not."""

    name: str
    division: int
    content_type: str
    announces: bool
    terminals: tuple[Terminal, ...]
    profile: str = ""
    """Of all its terminals, where it has a scenario."""
    domain: str | None = None
    """Of its terminals, where it is not the one of their profile."""
    network: str = ""
    changes_per_day: float = 0
    installed_days_ago: int | None = None
    dialect: str = ""
    """Of another platform's or of Sparkplug; empty: its own topics, in the form of `content_type`."""

    @property
    def talkers(self) -> tuple[Terminal, ...]:
        """Those of its terminals that send anything."""
        return tuple(terminal for terminal in self.terminals if terminal.talks)

    def topic(self, leaf: str, division: int | None = None) -> str:
        """Its topic that ends in `leaf`."""
        return f"ganzhi/v1/{division or self.division}/{self.name}/{leaf}"


def fleet(
    divisions: Sequence[int], *, gateways: int = 100, terminals: int = 20_000, seed: int = 1
) -> list[Gateway]:
    """A fleet spread evenly over `divisions` (county codes), the same for the same arguments.

    One gateway in 20 is a video platform with cameras (presence, no readings), if there are so many.
    """
    rng = random.Random(seed)  # noqa: S311 - reproducible, nothing secret
    counties = _cities_in_turn(divisions, rng)
    made = []
    for number, division in enumerate(itertools.islice(itertools.cycle(counties), gateways)):
        video = number % VIDEO_EVERY == VIDEO_EVERY - 1
        content_type = _content_type(number)
        own = range(number, terminals, gateways)
        kinds = [CAMERA] * len(own) if video else rng.choices(KINDS, [k.weight for k in KINDS], k=len(own))
        spelling = _spelling(content_type, rng)
        name = f"{'video' if video else 'gw'}-{division}-{number:03d}"
        mine = tuple(
            Terminal(_code(kind.code_form, n, division, rng), kind, rng.random(), spelling)
            for n, kind in zip(own, kinds, strict=True)
        )
        made.append(Gateway(name, division, content_type, rng.random() > UNANNOUNCED_SHARE, mine))
    return made


def province(scenario: Scenario) -> list[Gateway]:
    """The gateways of a scenario's fleets, the same for the same scenario."""
    made: list[Gateway] = []
    first = 0
    for number, plan in enumerate(scenario.fleet):
        rng = random.Random(f"{scenario.seed}/{number}/{plan.profile}")  # noqa: S311
        made += _gateways(scenario, plan, first, len(made), rng)
        first += scenario.size(plan)[1]
    return _with_clones(made, scenario.clones, random.Random(scenario.seed))  # noqa: S311


def registry(gateways: Sequence[Gateway], today: date) -> Iterator[tuple[object, ...]]:
    """A line of the register for each registered terminal, as `TERMINAL_COLUMNS`."""
    for gateway in gateways:
        ago = gateway.installed_days_ago
        for terminal in gateway.terminals:
            if terminal.registered:
                since = INSTALLED_FROM + timedelta(days=int(365 * terminal.phase))
                yield (
                    terminal.code, gateway.division, gateway.domain or terminal.kind.domain, terminal.kind.name,
                    gateway.network, gateway.name, terminal.report_seconds or "",
                    since if ago is None else today - timedelta(days=ago), _smart(terminal),
                )  # fmt: skip


def gateway_registry(gateways: Sequence[Gateway]) -> Iterator[tuple[object, ...]]:
    """A line for each gateway, as `GATEWAY_COLUMNS`."""
    for gateway in gateways:
        yield gateway.name, gateway.division, gateway.network or "edge", "simulated"


def _gateways(
    scenario: Scenario, plan: Fleet, first_terminal: int, first_gateway: int, rng: random.Random
) -> Iterator[Gateway]:
    gateways, terminals = scenario.size(plan)
    places = itertools.cycle(_cities_in_turn(counties(plan.divisions), rng))
    for number, division in enumerate(itertools.islice(places, gateways)):
        name = f"{plan.profile}-{division}-{first_gateway + number:03d}"
        dialect = "" if plan.dialect in {None, "senml", "plain"} else plan.dialect or ""
        content_type = _form(plan.dialect, number)
        spelling = 0 if dialect else _spelling(content_type, rng)
        own = range(first_terminal + number, first_terminal + terminals, gateways)
        mine = tuple(_terminal(scenario, plan, division, name, n, spelling, rng) for n in own)
        yield Gateway(
            name, division, content_type, rng.random() > UNANNOUNCED_SHARE, mine, plan.profile, plan.domain,
            plan.network, plan.changes_per_day, plan.installed_days_ago, dialect,
        )  # fmt: skip


def _terminal(
    scenario: Scenario,
    plan: Fleet,
    division: int,
    gateway: str,
    number: int,
    spelling: int,
    rng: random.Random,
) -> Terminal:
    phase, kind = rng.random(), KIND_OF[plan.profile]
    if rng.random() < plan.midnight_share:
        phase *= min(1.0, MIDNIGHT_SECONDS / plan.rhythm_seconds)
    registered = rng.random() >= plan.unregistered
    return Terminal(
        _code_in(plan, gateway, number, division, rng), kind, phase, spelling, scenario.report_seconds(plan),
        talks=not registered or rng.random() >= plan.sleepers, registered=registered,
    )  # fmt: skip


def _code_in(plan: Fleet, gateway: str, number: int, division: int, rng: random.Random) -> str:
    """A code as the fleet's dialect can say it."""
    if plan.dialect == "sparkplug":
        return dialects.code(gateway, f"device-{number:06d}")
    return _code("imei" if plan.dialect in PUSHES else KIND_OF[plan.profile].code_form, number, division, rng)


def _with_clones(gateways: list[Gateway], clones: int, rng: random.Random) -> list[Gateway]:
    """So many codes a second time, through a gateway of another city where there is one of the same profile."""
    for _ in range(clones):
        source = rng.choice(gateways)
        others = [
            number
            for number, gateway in enumerate(gateways)
            if (gateway.profile, gateway.dialect) == (source.profile, source.dialect)
            and city(gateway.division) != city(source.division)
        ]
        known = [terminal for terminal in source.talkers if terminal.registered]
        if others and known and source.dialect != "sparkplug":  # whose codes are of their edge node
            clone = rng.choice(known)._replace(phase=rng.random(), registered=False)
            other = gateways[number := rng.choice(others)]
            gateways[number] = other._replace(terminals=(*other.terminals, clone))
    return gateways


def _form(dialect: str | None, number: int) -> str:
    """The content type of a scenario's gateway."""
    if dialect == "plain":
        return PLAIN
    return (SENML_JSON, SENML_CBOR)[number % 2] if dialect == "senml" else _content_type(number)


def _content_type(number: int) -> str:
    return (PLAIN, SENML_CBOR, *[SENML_JSON] * 6)[number % 8]


def _spelling(content_type: str, rng: random.Random) -> int:
    return 0 if content_type == PLAIN else rng.randrange(3)  # the plain form cannot say units


def _smart(terminal: Terminal) -> str:
    """Of cameras, seven in ten are, and of one in ten nobody knows."""
    if terminal.kind is not CAMERA or terminal.phase > 0.9:
        return ""
    return "yes" if terminal.phase < 0.7 else "no"


def _cities_in_turn(divisions: Sequence[int], rng: random.Random) -> list[int]:
    """The counties, one of each city before a second one of any."""
    cities: dict[int, list[int]] = {}
    for division in rng.sample(sorted(divisions), len(divisions)):
        cities.setdefault(division // 100, []).append(division)
    turns = itertools.zip_longest(*(cities[city] for city in sorted(cities)))
    return [division for turn in turns for division in turn if division]


def _code(form: str, number: int, division: int, rng: random.Random) -> str:
    if form == "bid":
        return "did:bid:ef" + _base58(rng.randbytes(22))
    return {
        "imei15": "{imei}",
        "imei": "imei:{imei}",
        "urn_imei": "urn:imei:{imei}",
        "gb28181": "{division}00001320{serial:06d}",  # road, IPC, police video network
        "handle": "88.118.{enterprise}/ST.{number:08d}",
        "urn_dev": "urn:dev:mac:0024befffe{number:06x}",
        "vendor": "SD-{division}-{number:06d}",
    }[form].format(
        imei=_imei(number),
        division=division,
        serial=number % 1_000_000,
        number=number,
        enterprise=1 + number % 30,
    )


def _imei(number: int) -> str:
    """15 digits of which the last is Luhn's check digit (3GPP TS 23.003, annex B)."""
    digits = f"869900{number:08d}"
    doubled = sum(sum(divmod(2 * int(d), 10)) for d in digits[1::2])
    return digits + str(-(doubled + sum(map(int, digits[::2]))) % 10)


def _base58(data: bytes) -> str:
    number, text = int.from_bytes(data), ""
    while number:
        number, digit = divmod(number, 58)
        text = BASE58[digit] + text
    return text
