"""Settings that cannot work together: each check takes the values it is about, and raises `ValueError`.

The text names the settings and what to do. It holds no secret: none of the values is one.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from ingest.settings_sources import PREFIX
from ingest.settings_values import is_loopback
from schemas.topic import filters_overlap

REFRESH_DAYS = 2
"""Until late readings are in the rollups: the day of their bucket, and a day that maintenance may be away."""


def check_topics(topics: Sequence[str], share_group: str) -> None:
    """Every message comes, and comes once."""
    if overlap := filters_overlap(topics):
        raise ValueError(f"GANZHI_TOPICS: {overlap[0]} and {overlap[1]} overlap, every message in both "
                         "would come twice; name filters that do not overlap")  # fmt: skip
    if share_group and (dollar := [topic for topic in topics if topic.startswith("$")]):
        raise ValueError(f"GANZHI_SHARE_GROUP with the filter {dollar[0]} delivers nothing: brokers do not "
                         "share topics that begin with $; let a bridge republish them")  # fmt: skip


def check_pair(door: str, cert: Path | None, key: Path | None) -> None:
    """A certificate serves with its key; `door` is MQTT or HTTP."""
    if (cert is None) != (key is None):
        raise ValueError(f"GANZHI_{door}_CERT and GANZHI_{door}_KEY go together: set both or neither")


def check_http(host: str, *, https: bool, client_ca: bool, guarded: bool) -> None:
    """What is read by HTTP names every city's terminals: a network gets it only where that is meant."""
    if client_ca and not https:
        raise ValueError("GANZHI_HTTP_CLIENT_CA asks clients for certificates, which takes HTTPS: set "
                         "GANZHI_HTTP_CERT and GANZHI_HTTP_KEY")  # fmt: skip
    if not is_loopback(host) and not guarded:
        raise ValueError(f"GANZHI_HTTP_HOST {host} lets others than this machine read /metrics: set "
                         "GANZHI_HTTP_TOKEN_FILE to a file with a token, or GANZHI_HTTP_CLIENT_CA with "
                         "GANZHI_HTTP_CERT and GANZHI_HTTP_KEY for mutual TLS, or, where only a private network "
                         "leads there, GANZHI_HTTP_PRIVATE_NETWORK=true")  # fmt: skip


def check_files(files: Mapping[str, Path | None]) -> None:
    """The file of each setting can be read."""
    for name, file in files.items():
        try:
            if file:
                file.open("rb").close()
        except OSError as error:
            raise ValueError(f"{PREFIX}{name.upper()}: {file}: {error.strerror}") from None


def check_raw_days(raw_days: int, max_age_days: int, chunk_hours: int) -> None:
    """A refresh of rollups over readings that are dropped deletes rollups: readings have to outlast it."""
    chunk_days = chunk_hours / 24
    if raw_days and not max_age_days + REFRESH_DAYS < raw_days - chunk_days:
        raise ValueError(
            f"GANZHI_RETENTION_RAW_DAYS ({raw_days}) is too short: readings come up to GANZHI_MAX_AGE_DAYS "
            f"({max_age_days}) days late and are taken into rollups within {REFRESH_DAYS} more, which must "
            f"be less than it without a chunk of GANZHI_CHUNK_HOURS ({chunk_hours}); keep readings for "
            f"{math.floor(max_age_days + REFRESH_DAYS + chunk_days) + 1} days, or accept younger ones only"
        )


def hourly_days(days: int, raw_days: int, *, said: bool) -> int:
    """How long rollups are kept: as said, and never shorter than readings; 0 is for ever for both."""
    if 0 < days < raw_days:
        raise ValueError(f"GANZHI_RETENTION_HOURLY_DAYS ({days}) is shorter than GANZHI_RETENTION_RAW_DAYS "
                         f"({raw_days}): rollups outlive readings; raise it, or 0 for ever")  # fmt: skip
    if days and not raw_days and said:
        raise ValueError(f"GANZHI_RETENTION_HOURLY_DAYS ({days}) drops rollups of readings that are kept for "
                         "ever (GANZHI_RETENTION_RAW_DAYS or GANZHI_MAX_AGE_DAYS is 0): set it to 0, or leave "
                         "it out")  # fmt: skip
    return days if raw_days else 0
