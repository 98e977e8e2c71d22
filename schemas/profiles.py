"""Profiles: kinds of device, with the domain and the rhythm that hold where nobody says otherwise.

The table is data (`data/profiles.toml`, with the reason for every rhythm). A new kind is a table there.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files


@dataclass(frozen=True, slots=True)
class Profile:
    """One kind of device; `metrics` are names of the catalogue that it is expected to send."""

    name: str
    name_zh: str
    domain: str
    report_every_seconds: int
    metrics: tuple[str, ...]


def profile_of(name: str) -> Profile | None:
    """The profile of this English or Chinese name; None if there is none."""
    return PROFILES.get(name) or _BY_NAME_ZH.get(name)


_DATA = tomllib.loads(files("schemas").joinpath("data/profiles.toml").read_text(encoding="utf-8"))

PROFILES: Mapping[str, Profile] = {
    name: Profile(name, e["name_zh"], e["domain"], e["report_every"], tuple(e["metrics"]))
    for name, e in _DATA.items()
}
"""Every profile by name."""
_BY_NAME_ZH = {profile.name_zh: profile for profile in PROFILES.values()}
