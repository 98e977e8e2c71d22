"""A line of a register in, the facts of a terminal or gateway out, or what is wrong with the line.

Lines are texts by column, as CSV has them. An empty cell says nothing about its fact. Few of the texts in a
column differ, so each is read once and remembered: a line costs some microseconds.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, timedelta, timezone
from typing import Any

from devices.code import FORGOTTEN, Code, canonical, gb28181
from devices.datum import Datum, to_wgs84
from devices.division import DOMAINS, today
from schemas.payload import shown, storable
from schemas.profiles import PROFILES, profile_of

TEXT_CHARACTERS = 500
CODE_CHARACTERS = 256
REMEMBERED_MAX = 50_000
"""Texts of one column; beyond it they are read anew, so that memory stays flat."""
LON_RANGE, LAT_RANGE = (113.5, 124.0), (33.5, 39.5)
"""Shandong (114.8 to 122.7 E, 34.4 to 38.4 N) and a degree around it, for the sea."""
SHANDONG = timezone(timedelta(hours=8))
REPORT_EVERY_MAX_SECONDS = 413 * 86_400
"""The longest sleep that NB-IoT has a timer for (T3412-ext, 31 x 320 h)."""

CAMERA_TYPES = {121, 122, 131, 132}
KEY_AREA_INDUSTRIES = {0, 4, 5}
"""GB/T 28181: roads and public places, traffic roads and checkpoints. What counts is our reading of the policy."""

HEADERS = {
    "code": ("编码", "终端编码", "设备编码"),
    "division": ("行政区划", "区划代码", "行政区划代码"),
    "domain": ("领域", "应用领域"),
    "profile": ("类型", "设备类型", "终端类型"),
    "network": ("网络", "网络类型"),
    "gateway": ("网关", "所属网关"),
    "site": ("点位", "安装位置", "地址"),
    "project": ("项目", "项目名称"),
    "owner": ("权属单位", "责任单位", "单位"),
    "report_every": ("上报周期", "上报间隔"),
    "installed_on": ("安装日期", "安装时间"),
    "smart": ("智能", "是否智能"),
    "key_area": ("重点区域", "重点公共区域", "是否重点区域"),
    "lon": ("经度",),
    "lat": ("纬度",),
    "name": ("名称", "网关名称"),
    "kind": ("种类", "网关类型"),
    "contact": ("联系人", "联系方式"),
    "utc_offset": ("时差",),
    "alias": ("别名", "平台编码"),
    "valid_from": ("生效时间",),
    "valid_to": ("失效时间",),
}
TERMINAL_COLUMNS = ("code", "division", "domain", "profile", "network", "gateway", "site", "project", "owner",
                    "report_every", "installed_on", "smart", "key_area", "lon", "lat")  # fmt: skip
ALIAS_COLUMNS = ("code", "alias", "valid_from", "valid_to")
GATEWAY_COLUMNS = ("name", "division", "kind", "owner", "contact", "utc_offset")
NEVER_ALIKE = {"code", "lon", "lat"}
OUR_OWN = {"line", "reason", "state"}
"""Columns that exports and files of refused lines have more; they are no facts, and nobody need be told."""
DOMAINS_ZH = dict(zip(("制造", "医疗", "安防", "市政", "农业", "交通", "能源", "环境", "社区", "其他"),
                      DOMAINS, strict=True))  # fmt: skip
_YES, _NO = {"true", "t", "yes", "y", "1", "是"}, {"false", "f", "no", "n", "0", "否"}
_UNITS = {
    "": 1,
    "s": 1,
    "秒": 1,
    "min": 60,
    "m": 60,
    "分钟": 60,
    "h": 3600,
    "小时": 3600,
    "d": 86400,
    "天": 86400,
}
_DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,3})?) *(s|秒|min|m|分钟|h|小时|d|天|)")
_OFFSET = re.compile(r"([+-])?([0-9]{1,2})(?::?([0-9]{2}))?")
_GATEWAY = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_OUR_NAME = re.compile(r"ganzhi(-.*)?|observer|simulator|health")
"""Users and client ids of the service itself (deploy/mosquitto/acl); deploy/certificate.sh refuses them too."""
_ROUNDED = re.compile(r"[0-9](?:\.[0-9]+)?[eE]\+?[0-9]+")
_AT_MIDNIGHT = re.compile(r"[T ]00:00(:00(\.0+)?)?Z?$")


NOTHING_INFERRED = (False, False, False)


class HeaderError(ValueError):
    """A file whose columns can't be understood; the text says what is missing."""


class Fault(str):
    """What is wrong with a cell, as the reason of a refused line says it."""

    __slots__ = ()


Reader = Callable[[str], Any]
"""A cell's text, not empty, to its fact; raises ValueError with what is wrong and what would be right."""


class Sheet:
    """The columns of one file: finds them by their English or Chinese names, and reads lines."""

    def __init__(self, header: Sequence[str], columns: Sequence[str], readers: Mapping[str, Reader]) -> None:
        names = [_column(cell) for cell in header]
        twice = sorted({name for name in names if name in columns and names.count(name) > 1})
        if columns[0] not in names or twice:
            what = f"two columns are {', '.join(twice)}" if twice else f"there is no column {columns[0]}"
            raise HeaderError(
                f"{what} in the first line: the columns are {', '.join(columns)}, or {HEADERS[columns[0]][0]}, ..."
            )
        self.ignored = [name for name in names if name not in columns and name not in OUR_OWN]
        """Columns that nobody knows, as the file names them."""
        self._width = len(header)
        self._faults: list[Fault] = []
        # A column that the file has not is an empty cell behind the last one.
        places = [names.index(c) if c in names else self._width for c in columns]
        self._cells = [
            (place, _Facts(c, readers[c], self._faults, needed=c == columns[0]))
            for c, place in zip(columns, places, strict=True)
        ]

    def __call__(self, line: Sequence[str]) -> list[Any] | Fault:
        """Facts in the order of the columns, None where the line says nothing; or all that is wrong."""
        if len(line) != self._width:
            return Fault(f"{len(line)} cells, the first line has {self._width}")
        cells = [*line, ""]
        facts = [facts_of[cells[place]] for place, facts_of in self._cells]
        if self._faults:
            fault = Fault("; ".join(self._faults))
            self._faults.clear()
            return fault
        return facts


class Terminals:
    """Reads the lines of a register of terminals."""

    FIELDS = ("code", "scheme", *TERMINAL_COLUMNS[1:], "profile_domain",
              "division_inferred", "profile_inferred", "key_area_inferred")  # fmt: skip
    """What a line becomes. What a camera's own id says is marked: it counts where nobody says better."""

    def __init__(self, header: Sequence[str], datum: Datum = Datum.WGS84) -> None:
        self.sheet = Sheet(header, TERMINAL_COLUMNS, {**_READERS, "code": _code})
        self.suspect_imeis = 0
        """IMEIs with a wrong check digit; that is a doubt, no refusal."""
        self.count = 0
        """Lines read."""
        self._datum = datum

    def __call__(self, line: Sequence[str]) -> tuple[Any, ...] | Fault:
        """The facts of `FIELDS` (report_every in seconds, coordinates in WGS 84), or what is wrong."""
        self.count += 1
        facts = self.sheet(line)
        if isinstance(facts, Fault):
            return facts
        code, division, domain, profile, *middle, key_area, lon, lat = facts
        if lon is not None or lat is not None:
            point = _point(lon, lat, self._datum)
            if isinstance(point, Fault):
                return point
            lon, lat = point
        self.suspect_imeis += code.suspect
        inferred: tuple[bool, ...] = NOTHING_INFERRED
        if code.scheme == "gb28181":
            said = (division, profile, key_area)
            division, profile, key_area = map(_first, said, _camera(code.code))
            inferred = tuple(
                a is None and b is not None for a, b in zip(said, (division, profile, key_area), strict=True)
            )
        usual = PROFILES[profile].domain if profile else None
        return (
            code.code,
            code.scheme,
            division,
            domain,
            profile,
            *middle,
            key_area,
            lon,
            lat,
            usual,
            *inferred,
        )


def gateways(header: Sequence[str]) -> Sheet:
    """Reads the lines of a register of gateways: `GATEWAY_COLUMNS`, utc_offset in seconds."""
    return Sheet(header, GATEWAY_COLUMNS, _READERS)


def aliases(header: Sequence[str]) -> Sheet:
    """Reads the lines of a register of aliases: `ALIAS_COLUMNS`, both codes as `devices.code.Code`."""
    return Sheet(header, ALIAS_COLUMNS, {**_READERS, "code": _code})


def alias(text: str) -> Code:
    """Another name of a terminal, canonical. Raises ValueError."""
    code = _code(text)
    if not all(code.code.partition(":")):
        raise ValueError(f"alias {shown(text)}: it is SCHEME:VALUE, such as ctwing:0123abcd")
    return code


def moment(text: str) -> datetime:
    """A time with its zone; Shandong's where the text has none, and a day begins there. Raises ValueError."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"time {shown(text)}: write 2026-11-01, or 2026-11-01T08:00:00+08:00") from None
    return time if time.tzinfo else time.replace(tzinfo=SHANDONG)


def gateway_name(text: str) -> str:
    """A gateway's name as topics may carry it. Raises ValueError."""
    if not _GATEWAY.fullmatch(text):
        raise ValueError(f"gateway {shown(text)}: a name is 1 to 64 of A-Z a-z 0-9 _ . -")
    if _OUR_NAME.fullmatch(text):
        raise ValueError(
            f"gateway {text!r} is a user or a client id of the service itself: choose another name"
        )
    return text


def division(text: str) -> int:
    """Today's code of a division, also by one that was abolished. Raises ValueError."""
    digits = text.removesuffix(".0")
    code = today(int(digits)) if re.fullmatch("[0-9]{6}", digits) else None
    if code is None:
        raise ValueError(f"division {shown(text)}: no GB/T 2260 code of Shandong, such as 370102")
    return code


def utc_offset_seconds(text: str) -> int:
    """Seconds of `+08:00`, `8` or `-0530`. Raises ValueError."""
    found = _OFFSET.fullmatch(text)
    if not found or int(found[2]) > 14 or int(found[3] or 0) > 59:
        raise ValueError(f"utc_offset {shown(text)}: hours east of UTC, such as +08:00")
    seconds = int(found[2]) * 3600 + int(found[3] or 0) * 60
    return -seconds if found[1] == "-" else seconds


def _column(cell: str) -> str:
    name = cell.strip().removeprefix("\ufeff")
    folded = name.casefold().replace(" ", "_")
    return _COLUMN_OF.get(folded, folded if folded in OUR_OWN else name)


class _Facts(dict[str, Any]):
    """Facts by the text of a cell, read when first met; a plain look-up from then on."""

    def __init__(self, column: str, reader: Reader, faults: list[Fault], *, needed: bool) -> None:
        self._read = reader
        self._faults = faults
        self._empty = Fault(f"{column} is empty") if needed else None
        self._room = 0 if column in NEVER_ALIKE else REMEMBERED_MAX

    def __missing__(self, text: str) -> Any:
        """The fact; what is wrong with the text goes to `faults`, and is not remembered."""
        try:
            fact = self._read(stripped) if (stripped := text.strip()) else self._empty
        except ValueError as error:
            fact = Fault(error)
        if type(fact) is Fault:
            self._faults.append(fact)
        elif len(self) < self._room:
            self[text] = fact
        return fact


def _first(said: Any, inferred: Any) -> Any:
    return inferred if said is None else said


def _code(text: str) -> Code:
    if len(text) > CODE_CHARACTERS or not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError(f"code {shown(text)}: up to {CODE_CHARACTERS} visible ASCII characters")
    if _ROUNDED.fullmatch(text):
        raise ValueError(f"code {text}: a spreadsheet has rounded it; export the column as text")
    if text.startswith(FORGOTTEN):
        raise ValueError(f"code {text}: it marks a terminal that was forgotten, and is no code")
    return canonical(text)


def _text(text: str) -> str:
    if len(text) > TEXT_CHARACTERS or not storable(text) or not text.isprintable():
        raise ValueError(f"{shown(text)}: up to {TEXT_CHARACTERS} characters of text in one line")
    return text


def domain(text: str) -> str:
    """A domain, in English or Chinese. Raises ValueError with those that there are."""
    found = DOMAINS_ZH.get(text, text.casefold())
    if found not in DOMAINS:
        known = ", ".join(f"{english} {chinese}" for chinese, english in DOMAINS_ZH.items())
        raise ValueError(f"domain {shown(text)}: there are {known}")
    return found


def _profile(text: str) -> str:
    profile = profile_of(text.casefold().replace(" ", "_"))
    if profile is None:
        raise ValueError(f"profile {shown(text)}: there are {', '.join(PROFILES)}")
    return profile.name


def _network(text: str) -> str:
    """One spelling: NB-IoT, nb_iot and NBIoT are nbiot, which the daily networking rate looks for."""
    return re.sub(r"[-_ ]", "", _text(text).casefold())


def _report_every(text: str) -> float:
    found = _DURATION.fullmatch(text.casefold())
    seconds = float(found[1]) * _UNITS[found[2]] if found else 0
    if not 0 < seconds <= REPORT_EVERY_MAX_SECONDS:
        raise ValueError(f"report_every {shown(text)}: seconds, or such as 15min, 24h, 1d, up to 413 days")
    return seconds


def _date(text: str) -> date:
    plain = _AT_MIDNIGHT.sub("", text).translate(str.maketrans("/.年月", "----", "日"))
    try:
        year, month, day = (
            (plain[:4], plain[4:6], plain[6:]) if re.fullmatch("[0-9]{8}", plain) else plain.split("-")
        )
        return date(int(year), int(month), int(day))
    except ValueError:
        raise ValueError(f"installed_on {shown(text)}: write a day, 2026-11-01") from None


def _yes_or_no(text: str) -> bool:
    if (folded := text.casefold()) not in _YES | _NO:
        raise ValueError(f"{shown(text)}: true or false, empty where nobody knows")
    return folded in _YES


def _degrees(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"coordinate {shown(text)}: decimal degrees, such as 117.02") from None


def _point(lon: Any, lat: Any, datum: Datum) -> tuple[float, float] | Fault:
    if lon is None or lat is None:
        return Fault("one of lon and lat is empty")
    if not (LON_RANGE[0] <= lon <= LON_RANGE[1] and LAT_RANGE[0] <= lat <= LAT_RANGE[1]):
        swapped = LON_RANGE[0] <= lat <= LON_RANGE[1]
        return Fault(
            f"lon {lon:.6g}, lat {lat:.6g} is not in Shandong" + (": are they swapped?" if swapped else "")
        )
    return (lon, lat) if datum is Datum.WGS84 else to_wgs84(lon, lat, datum)


def _camera(code: str) -> tuple[int | None, str | None, bool | None]:
    """Division, profile and key area as a GB/T 28181 id has them; None where it says nothing of one."""
    parts = gb28181(code)
    assert parts
    place = today(parts.division)
    if parts.type not in CAMERA_TYPES:
        return place, None, None
    return place, "video", parts.industry in KEY_AREA_INDUSTRIES


_COLUMN_OF = {alias: name for name, aliases in HEADERS.items() for alias in (name, *aliases)}
_READERS: Mapping[str, Reader] = {
    "name": gateway_name, "division": division, "domain": domain, "profile": _profile, "network": _network,
    "gateway": gateway_name, "site": _text, "project": _text, "owner": _text, "kind": _text, "contact": _text,
    "report_every": _report_every, "installed_on": _date, "smart": _yes_or_no, "key_area": _yes_or_no,
    "lon": _degrees, "lat": _degrees, "utc_offset": utc_offset_seconds,
    "alias": alias, "valid_from": moment, "valid_to": moment,
}  # fmt: skip
