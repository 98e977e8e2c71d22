"""Words and numbers of page and report, in Chinese and English. Pure.

Texts stand in templates/words.toml and templates/definitions.toml, a pair each. What is not known is a dash, and
never 0; a share that is not whole is never written as whole.
"""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

from devices.coverage import Ratio
from devices.day import SHANDONG
from devices.division import DIVISIONS, PROVINCE
from devices.spelling import DOMAINS_ZH

LANGUAGES = ("zh", "en")
DASH = "—"
ONLY_DECLARED = ("identifier_nodes_secondary_connected", "identifier_registrations")
UNITS: Mapping[str, Sequence[tuple[float, str]]] = {
    "zh": ((1e8, "亿"), (1e4, "万")),
    "en": ((1e9, " bn"), (1e6, " M"), (1e3, " k")),
}


class Definition(NamedTuple):
    """How an indicator is counted; texts are Chinese and English."""

    key: str
    name: Sequence[str]
    formula: Sequence[str]
    source: Sequence[str]
    bias: Sequence[str]
    goal: float | None = None


@cache
def definitions() -> tuple[Definition, ...]:
    """All that are shown, in their order."""
    return tuple(Definition(key, **entry) for key, entry in _toml("definitions").items())


def language_of(header: str) -> str:
    """The language that an Accept-Language header likes best (RFC 9110, 12.5.4), Chinese where it says neither."""
    wishes = []
    for position, wish in enumerate(header.split(",")):
        tag, _, weight = wish.partition(";q=")
        try:
            quality = float(weight) if weight else 1.0
        except ValueError:
            continue
        wishes.append((-quality, position, tag.strip().lower()[:2]))
    return next((tag for quality, _, tag in sorted(wishes) if tag in LANGUAGES and quality), "zh")


@dataclass(frozen=True)
class Words:
    """One language: `words("verified")`, and how its numbers are written."""

    language: str

    def __call__(self, name: str, **values: object) -> str:
        """A text with its blanks filled in. Raises KeyError for one that there is not."""
        text = str(_words()[name][self._place])
        return text.format(**values) if values else text

    def pick(self, pair: Sequence[str]) -> str:
        """Of Chinese and English."""
        return pair[self._place]

    @property
    def _place(self) -> int:
        return LANGUAGES.index(self.language)

    def division(self, code: int) -> str:
        """The name of a place; a code that nobody knows as it is."""
        known = DIVISIONS.get(code)
        if known is None:
            return str(code)
        return self.pick((known.name_zh, known.name_en))

    def city(self, code: int) -> str:
        """As `division`; 370000 is where only the province is known."""
        return self("unplaced") if code == PROVINCE else self.division(code)

    def short_city(self, code: int) -> str:
        """For a map."""
        return self.division(code).removesuffix("市").removesuffix(" City")

    def domain(self, name: str | None) -> str:
        """The name of a domain; none: a dash."""
        names = {domain: zh for zh, domain in DOMAINS_ZH.items()}
        return self.pick((names.get(name, name), name)) if name else DASH

    def kind(self, name: str) -> str:
        """The name of a kind of gap."""
        return self("kind_never_heard" if name == "never_heard" else name)

    def number(self, value: float | None) -> str:
        """A whole number with its thousands apart."""
        return DASH if value is None else f"{value:,.0f}"

    def short(self, value: float | None) -> str:
        """A number in 亿 and 万, or M and k: three digits or so; small ones as they are."""
        if value is None:
            return DASH
        for size, unit in UNITS[self.language]:
            if abs(value) >= size:
                scaled = value / size
                digits = 0 if abs(scaled) >= 1_000 else 1 if abs(scaled) >= 100 else 2
                text = f"{scaled:,.{digits}f}"
                return (text.rstrip("0").rstrip(".") if "." in text else text) + unit
        return f"{value:,.0f}"

    def is_large(self, value: float | None) -> bool:
        """Whether a number is easier to read with `short` beside it: from 万 on, in English from a million."""
        return value is not None and abs(value) >= {"zh": 1e4, "en": 1e6}[self.language]

    def percent(self, share: float | Ratio | None) -> str:
        """A share in per cent: two digits below 10 %, one above, none of them invented."""
        value = share.value if isinstance(share, Ratio) else share
        if value is None:
            return DASH
        if 0 < value < 0.0001:
            return "<0.01%"
        if 0.9995 <= value < 1:
            return "99.9%"
        return f"{value:.2%}" if 0 < value < 0.1 else f"{value:.1%}"

    def indicators(self) -> dict[str, str]:
        """Names of indicators that are shown, or declared from the start; any other stands under its own name."""
        return {d.key: self.pick(d.name) for d in definitions()} | {
            name: self(name) for name in ONLY_DECLARED
        }

    def figure(self, name: str, value: float | None) -> str:
        """A value of an indicator, by its name."""
        return self.percent(value) if name.endswith("_ratio") else self.number(value)

    def change(self, name: str, value: float | None) -> str:
        """A growth with its sign; of a ratio in percentage points."""
        if value is None:
            return DASH
        if name.endswith("_ratio"):
            points = round(value * 100, 2)
            return f"{points or 0:{'+' if points else ''}.2f} {self('points')}"
        return f"{value:+,.0f}" if value else "0"

    def time(self, seconds: float | None) -> str:
        """A moment in Shandong, to the minute."""
        return DASH if seconds is None else f"{datetime.fromtimestamp(seconds, SHANDONG):%Y-%m-%d %H:%M}"


@cache
def _words() -> Mapping[str, Sequence[str]]:
    return _toml("words")


def _toml(name: str) -> dict[str, Any]:
    return tomllib.loads(files("ingest").joinpath("templates", f"{name}.toml").read_text(encoding="utf-8"))
