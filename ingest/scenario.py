"""What a scenario file says: the fleets of a province, and what befalls them. Pure; `docs/simulate.md` shows one.

Times of a scenario are of two sorts. The rhythm of devices runs `time_scale` times faster than life; minutes
of a silence are real ones, from the start of the run, because whoever watches lives in them.
"""

import math
from typing import Annotated, NamedTuple, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from devices.division import DIVISIONS, DOMAINS, city
from ingest.dialects import DIALECTS
from ingest.kinds import KIND_OF
from schemas.profiles import PROFILES

TERMINALS_PER_GATEWAY = 250
"""Where a fleet does not say how many gateways it has."""

Share = Annotated[float, Field(ge=0, le=1)]


def _place(code: int) -> int:
    if code not in DIVISIONS:
        raise ValueError(f"{code} is no division of today, such as 370200 or 370203")
    return code


def _profile(name: str) -> str:
    if name not in KIND_OF:
        raise ValueError(f"{name}: there are {', '.join(sorted(KIND_OF))}")
    return name


def _domain(name: str) -> str:
    if name not in DOMAINS:
        raise ValueError(f"{name}: there are {', '.join(DOMAINS)}")
    return name


def _dialect(name: str) -> str:
    if name not in DIALECTS:
        raise ValueError(f"{name}: there are {', '.join(DIALECTS)}")
    return name


Place = Annotated[int, AfterValidator(_place)]
ProfileName = Annotated[str, AfterValidator(_profile)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Fleet(_Table):
    """Terminals of one profile over some counties. `divisions` are counties, cities or the province.

    `sleepers` are registered and never heard, `unregistered` heard and not registered. `midnight_share` of
    them report in the five minutes after midnight. `changes_per_day`: a terminal's reports beside its rhythm.
    """

    profile: ProfileName
    terminals: Annotated[int, Field(ge=1, le=10_000_000)]
    gateways: Annotated[int, Field(ge=1, le=100_000)] | None = None
    divisions: tuple[Place, ...] = ()
    domain: Annotated[str, AfterValidator(_domain)] | None = None
    network: str = ""
    report_every_seconds: Annotated[float, Field(gt=0)] | None = None
    sleepers: Share = 0
    unregistered: Share = 0
    midnight_share: Share = 0
    changes_per_day: Annotated[float, Field(ge=0)] = 0
    dialect: Annotated[str, AfterValidator(_dialect)] | None = None
    """What its gateways speak; without it, SenML in JSON and CBOR and the plain form in turn."""
    installed_days_ago: Annotated[int, Field(ge=0, le=10_000)] | None = None
    """Without it, in 2024. Up to 7 days, nobody is missed who was not heard yet."""

    @model_validator(mode="after")
    def _video_has_presence_alone(self) -> Self:
        if self.dialect and not KIND_OF[self.profile].signals:
            raise ValueError(f"{self.profile} sends no readings, only presence: leave dialect out")
        return self

    @property
    def rhythm_seconds(self) -> float:
        """Seconds between two reports of such a device, in life."""
        return self.report_every_seconds or PROFILES[self.profile].report_every_seconds


class Window(NamedTuple):
    """A silence as it happens once: seconds from the start of the run."""

    start: float
    end: float


class Silence(_Table):
    """Gateways that say nothing for `minutes`, from `minute` on and again every `every_minutes`.

    `division` (with all within it) and `profile` say which, `gateways` how many of those; None: all.
    `will`: the broker says that they are offline, and they say when they are back. `backlog`: what was
    measured meanwhile comes afterwards, with times that lie back as far as the devices' rhythm says.
    """

    minute: Annotated[float, Field(ge=0)]
    minutes: Annotated[float, Field(gt=0)]
    every_minutes: Annotated[float, Field(gt=0)] | None = None
    division: Place = 370_000
    profile: ProfileName | None = None
    gateways: Annotated[int, Field(ge=1)] | None = None
    will: bool = False
    backlog: bool = False

    @model_validator(mode="after")
    def _ends_before_it_comes_again(self) -> Self:
        if self.every_minutes is not None and self.every_minutes <= self.minutes:
            raise ValueError("every_minutes must be more than minutes: a silence ends before it comes again")
        return self

    def window(self, number: int) -> Window | None:
        """The silence of this number, from 0; None if there is no such one."""
        if number and not self.every_minutes:
            return None
        start = 60 * (self.minute + number * (self.every_minutes or 0))
        return Window(start, start + 60 * self.minutes)

    def at(self, seconds: float) -> Window | None:
        """The window that holds this time, seconds from the start."""
        since = seconds - 60 * self.minute
        number = math.floor(since / (60 * self.every_minutes)) if self.every_minutes else 0
        window = self.window(number) if since >= 0 else None
        return window if window and seconds < window.end else None


class Scenario(_Table):
    """What is simulated. Shares are probabilities; `messages_per_second` is a limit, 0: none.

    With `fleet` tables each terminal reports at its own rhythm; `factor` makes them all smaller. Without,
    `gateways` and `terminals` spread evenly over the counties, and publish in turn as fast as the limit lets them.
    """

    gateways: Annotated[int, Field(ge=1, le=100_000)] = 100
    terminals: Annotated[int, Field(ge=1, le=10_000_000)] = 20_000
    messages_per_second: Annotated[float, Field(ge=0)] | None = None
    seconds: Annotated[float, Field(gt=0)] | None = None
    readings: Annotated[int, Field(ge=1, le=10_000)] = 20
    bad_share: Share = 0.01
    duplicate_share: Share = 0.01
    seed: int = 1
    factor: Annotated[float, Field(gt=0, le=100)] = 1
    time_scale: Annotated[float, Field(gt=0)] = 1
    fastest_seconds: Annotated[int, Field(ge=1)] = 10
    """However fast time runs, no terminal reports more often than this."""
    clones: Annotated[int, Field(ge=0)] = 0
    """Codes that are sent from a second city too."""
    fleet: tuple[Fleet, ...] = ()
    silence: tuple[Silence, ...] = ()

    @model_validator(mode="after")
    def _one_sort_of_fleet(self) -> Self:
        even = {"gateways", "terminals"} & self.model_fields_set
        tables = {"factor", "time_scale", "fastest_seconds", "clones", "silence"} & self.model_fields_set
        if self.fleet and even:
            raise ValueError(
                f"{', '.join(sorted(even))}: fleet tables have their own; factor scales them all"
            )
        if tables and not self.fleet:
            raise ValueError(f"{', '.join(sorted(tables))}: only a scenario with fleet tables has these")
        return self

    @property
    def limit_per_second(self) -> float:
        """Messages a second at most; 0: no limit. 50 where nobody has a rhythm or said otherwise."""
        return (0 if self.fleet else 50) if self.messages_per_second is None else self.messages_per_second

    def report_seconds(self, fleet: Fleet) -> int:
        """Whole real seconds between two reports of a terminal of this fleet, as the registry says too."""
        return max(self.fastest_seconds, round(fleet.rhythm_seconds / self.time_scale))

    def size(self, fleet: Fleet) -> tuple[int, int]:
        """Gateways and terminals of a fleet, scaled."""
        terminals = max(1, round(fleet.terminals * self.factor))
        gateways = fleet.gateways or math.ceil(fleet.terminals / TERMINALS_PER_GATEWAY)
        return min(terminals, max(1, round(gateways * self.factor))), terminals


def within(division: int, place: int) -> bool:
    """Whether a division is this place or lies in it."""
    return division == place or DIVISIONS[place].parent is None or city(division) == place


def counties(places: tuple[int, ...]) -> list[int]:
    """The counties of some places, all of the province if none is named."""
    return [
        code
        for code, division in DIVISIONS.items()
        if division.level == "county" and (not places or any(within(code, place) for place in places))
    ]
