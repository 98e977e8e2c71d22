"""Facts as people write them, in registers, plans and options: a text in, the fact out.

Usual spellings of one fact are one fact. A reader takes a text that is not empty, without blanks around it, and raises
ValueError with what is wrong and what would be right.
"""

import re
from collections.abc import Callable
from datetime import date, datetime
from typing import Any

from devices.code import FORGOTTEN, Code, canonical
from devices.day import SHANDONG
from devices.division import DOMAINS, today
from schemas.payload import shown, storable
from schemas.profiles import PROFILES, profile_of

Reader = Callable[[str], Any]

TEXT_CHARACTERS = 500
CODE_CHARACTERS = 256
REPORT_EVERY_MAX_SECONDS = 413 * 86_400
"""The longest sleep that NB-IoT has a timer for (T3412-ext, 31 x 320 h)."""
DOMAINS_ZH = dict(zip(("制造", "医疗", "安防", "市政", "农业", "交通", "能源", "环境", "社区", "其他"),
                      DOMAINS, strict=True))  # fmt: skip

_YES, _NO = {"true", "t", "yes", "y", "1", "是"}, {"false", "f", "no", "n", "0", "否"}
_UNIT_SECONDS = {
    "": 1, "s": 1, "秒": 1, "min": 60, "m": 60, "分钟": 60, "h": 3600, "小时": 3600, "d": 86_400, "天": 86_400,
}  # fmt: skip
_DURATION = re.compile(rf"([0-9]{{1,9}}(?:\.[0-9]{{1,3}})?) *({'|'.join(_UNIT_SECONDS)})")
_OFFSET = re.compile(r"([+-])?([0-9]{1,2})(?::?([0-9]{2}))?")
_GATEWAY = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_OUR_NAME = re.compile(r"ganzhi(-.*)?|observer|simulator|health")
"""Users and client ids of the service itself (deploy/mosquitto/acl); deploy/certificate.sh refuses them too."""
_ROUNDED = re.compile(r"[0-9](?:\.[0-9]+)?[eE]\+?[0-9]+")
_AT_MIDNIGHT = re.compile(r"[T ]00:00(:00(\.0+)?)?Z?$")
_DATE_MARKS = str.maketrans("/.年月", "----", "日")


def code(text: str) -> Code:
    """A terminal's code, canonical."""
    if len(text) > CODE_CHARACTERS or not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError(f"code {shown(text)}: up to {CODE_CHARACTERS} visible ASCII characters")
    if _ROUNDED.fullmatch(text):
        raise ValueError(f"code {text}: a spreadsheet has rounded it; export the column as text")
    if text.startswith(FORGOTTEN):
        raise ValueError(f"code {text}: it marks a terminal that was forgotten, and is no code")
    return canonical(text)


def alias(text: str) -> Code:
    """Another name of a terminal, canonical."""
    name = code(text)
    if not all(name.code.partition(":")):
        raise ValueError(f"alias {shown(text)}: it is SCHEME:VALUE, such as ctwing:0123abcd")
    return name


def gateway_name(text: str) -> str:
    """A gateway's name as topics may carry it."""
    if not _GATEWAY.fullmatch(text):
        raise ValueError(f"gateway {shown(text)}: a name is 1 to 64 of A-Z a-z 0-9 _ . -")
    if _OUR_NAME.fullmatch(text):
        raise ValueError(
            f"gateway {text!r} is a user or a client id of the service itself: choose another name"
        )
    return text


def division(text: str) -> int:
    """Today's code of a division, also by one that was abolished."""
    digits = text.removesuffix(".0")
    now = today(int(digits)) if re.fullmatch("[0-9]{6}", digits) else None
    if now is None:
        raise ValueError(f"division {shown(text)}: no GB/T 2260 code of Shandong, such as 370102")
    return now


def domain(text: str) -> str:
    """A domain, in English or Chinese."""
    found = DOMAINS_ZH.get(text, text.casefold())
    if found not in DOMAINS:
        known = ", ".join(f"{english} {chinese}" for chinese, english in DOMAINS_ZH.items())
        raise ValueError(f"domain {shown(text)}: there are {known}")
    return found


def profile(text: str) -> str:
    """The name of a profile, in English or Chinese."""
    found = profile_of(text.casefold().replace(" ", "_"))
    if found is None:
        raise ValueError(f"profile {shown(text)}: there are {', '.join(PROFILES)}")
    return found.name


def network(text: str) -> str:
    """One spelling: NB-IoT, nb_iot and NBIoT are nbiot, which the daily networking rate looks for."""
    return re.sub(r"[-_ ]", "", free_text(text).casefold())


def free_text(text: str) -> str:
    """Free text, such as an address."""
    if len(text) > TEXT_CHARACTERS or not storable(text) or not text.isprintable():
        raise ValueError(f"{shown(text)}: up to {TEXT_CHARACTERS} characters of text in one line")
    return text


def yes_or_no(text: str) -> bool:
    """True or false, in English or Chinese."""
    if (folded := text.casefold()) not in _YES | _NO:
        raise ValueError(f"{shown(text)}: true or false, empty where nobody knows")
    return folded in _YES


def degrees(text: str) -> float:
    """A longitude or latitude, wherever it may be."""
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"coordinate {shown(text)}: decimal degrees, such as 117.02") from None


def report_every_seconds(text: str) -> float:
    """How often a terminal reports, in seconds."""
    found = _DURATION.fullmatch(text.casefold())
    seconds = float(found[1]) * _UNIT_SECONDS[found[2]] if found else 0
    if not 0 < seconds <= REPORT_EVERY_MAX_SECONDS:
        raise ValueError(f"report_every {shown(text)}: seconds, or such as 15min, 24h, 1d, up to 413 days")
    return seconds


def installed_on(text: str) -> date:
    """A day; a midnight behind it, as spreadsheets write it, says nothing."""
    plain = _AT_MIDNIGHT.sub("", text).translate(_DATE_MARKS)
    try:
        year, month, day = (
            (plain[:4], plain[4:6], plain[6:]) if re.fullmatch("[0-9]{8}", plain) else plain.split("-")
        )
        return date(int(year), int(month), int(day))
    except ValueError:
        raise ValueError(f"installed_on {shown(text)}: write a day, 2026-11-01") from None


def moment(text: str) -> datetime:
    """A time with its zone; Shandong's where the text has none, and a day begins there."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"time {shown(text)}: write 2026-11-01, or 2026-11-01T08:00:00+08:00") from None
    return time if time.tzinfo else time.replace(tzinfo=SHANDONG)


def utc_offset_seconds(text: str) -> int:
    """Seconds of `+08:00`, `8` or `-0530`."""
    found = _OFFSET.fullmatch(text)
    if not found or int(found[2]) > 14 or int(found[3] or 0) > 59:
        raise ValueError(f"utc_offset {shown(text)}: hours east of UTC, such as +08:00")
    seconds = int(found[2]) * 3600 + int(found[3] or 0) * 60
    return -seconds if found[1] == "-" else seconds
