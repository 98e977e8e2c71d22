"""A line of a register in, the facts of a terminal or gateway out, or what is wrong with the line.

Lines are texts by column, as CSV has them; what a text means is `devices.spelling`'s. An empty cell says nothing
about its fact. Few of the texts in a column differ, so each is read once and remembered: a line costs some
microseconds.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from devices import spelling
from devices.code import gb28181
from devices.datum import Datum, to_wgs84
from devices.division import today
from devices.spelling import Reader
from schemas.profiles import PROFILES

REMEMBERED_MAX = 50_000
"""Texts of one column; beyond it they are read anew, so that memory stays flat."""
LON_RANGE, LAT_RANGE = (113.5, 124.0), (33.5, 39.5)
"""Shandong (114.8 to 122.7 E, 34.4 to 38.4 N) and a degree around it, for the sea."""
CAMERA_TYPES = {121, 122, 131, 132}
KEY_AREA_INDUSTRIES = {0, 4, 5}
"""GB/T 28181: roads and public places, traffic roads and checkpoints. What counts is our reading of the policy."""

COLUMNS: Mapping[str, tuple[Reader, tuple[str, ...]]] = {
    "code": (spelling.code, ("编码", "终端编码", "设备编码")),
    "division": (spelling.division, ("行政区划", "区划代码", "行政区划代码")),
    "domain": (spelling.domain, ("领域", "应用领域")),
    "profile": (spelling.profile, ("类型", "设备类型", "终端类型")),
    "network": (spelling.network, ("网络", "网络类型")),
    "gateway": (spelling.gateway_name, ("网关", "所属网关")),
    "site": (spelling.free_text, ("点位", "安装位置", "地址")),
    "project": (spelling.free_text, ("项目", "项目名称")),
    "owner": (spelling.free_text, ("权属单位", "责任单位", "单位")),
    "report_every": (spelling.report_every_seconds, ("上报周期", "上报间隔")),
    "installed_on": (spelling.installed_on, ("安装日期", "安装时间")),
    "smart": (spelling.yes_or_no, ("智能", "是否智能")),
    "key_area": (spelling.yes_or_no, ("重点区域", "重点公共区域", "是否重点区域")),
    "lon": (spelling.degrees, ("经度",)),
    "lat": (spelling.degrees, ("纬度",)),
    "name": (spelling.gateway_name, ("名称", "网关名称")),
    "kind": (spelling.free_text, ("种类", "网关类型")),
    "contact": (spelling.free_text, ("联系人", "联系方式")),
    "utc_offset": (spelling.utc_offset_seconds, ("时差",)),
    "alias": (spelling.alias, ("别名", "平台编码")),
    "valid_from": (spelling.moment, ("生效时间",)),
    "valid_to": (spelling.moment, ("失效时间",)),
}
"""Every column of any register: what reads its texts, and how it is headed in Chinese."""
TERMINAL_COLUMNS = ("code", "division", "domain", "profile", "network", "gateway", "site", "project", "owner",
                    "report_every", "installed_on", "smart", "key_area", "lon", "lat")  # fmt: skip
ALIAS_COLUMNS = ("code", "alias", "valid_from", "valid_to")
GATEWAY_COLUMNS = ("name", "division", "kind", "owner", "contact", "utc_offset")
NEVER_ALIKE = {"code", "lon", "lat"}
OUR_OWN = {"line", "reason", "state"}
"""Columns that exports and files of refused lines have more; they are no facts, and nobody need be told."""
NOTHING_INFERRED: tuple[bool, ...] = (False, False, False)


class HeaderError(ValueError):
    """A file whose columns can't be understood; the text says what is missing."""


class Fault(str):
    """What is wrong with a cell, as the reason of a refused line says it."""

    __slots__ = ()


class Sheet:
    """The columns of one file: finds them by their English or Chinese names, and reads lines."""

    def __init__(self, header: Sequence[str], columns: Sequence[str]) -> None:
        names = [_column(cell) for cell in header]
        twice = sorted({name for name in names if name in columns and names.count(name) > 1})
        if columns[0] not in names or twice:
            what = f"two columns are {', '.join(twice)}" if twice else f"there is no column {columns[0]}"
            raise HeaderError(
                f"{what} in the first line: the columns are {', '.join(columns)}, or {COLUMNS[columns[0]][1][0]}, ..."
            )
        self.ignored = [name for name in names if name not in columns and name not in OUR_OWN]
        """Columns that nobody knows, as the file names them."""
        self._width = len(header)
        self._faults: list[Fault] = []
        # A column that the file has not is an empty cell behind the last one.
        places = [names.index(c) if c in names else self._width for c in columns]
        self._cells = [
            (place, _Facts(c, COLUMNS[c][0], self._faults, needed=c == columns[0]))
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
        self.sheet = Sheet(header, TERMINAL_COLUMNS)
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
        said, inferred = (division, profile, key_area), NOTHING_INFERRED
        if code.scheme == "gb28181":
            said, inferred = _with_id(code.code, said)
        division, profile, key_area = said
        usual = PROFILES[profile].domain if profile else None
        return (code.code, code.scheme, division, domain, profile, *middle, key_area, lon, lat, usual,
                *inferred)  # fmt: skip


def gateways(header: Sequence[str]) -> Sheet:
    """Reads the lines of a register of gateways: `GATEWAY_COLUMNS`, utc_offset in seconds."""
    return Sheet(header, GATEWAY_COLUMNS)


def aliases(header: Sequence[str]) -> Sheet:
    """Reads the lines of a register of aliases: `ALIAS_COLUMNS`, both codes as `devices.code.Code`."""
    return Sheet(header, ALIAS_COLUMNS)


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


def _point(lon: Any, lat: Any, datum: Datum) -> tuple[float, float] | Fault:
    if lon is None or lat is None:
        return Fault("one of lon and lat is empty")
    if not (LON_RANGE[0] <= lon <= LON_RANGE[1] and LAT_RANGE[0] <= lat <= LAT_RANGE[1]):
        swapped = LON_RANGE[0] <= lat <= LON_RANGE[1]
        return Fault(
            f"lon {lon:.6g}, lat {lat:.6g} is not in Shandong" + (": are they swapped?" if swapped else "")
        )
    return to_wgs84(lon, lat, datum)


def _with_id(code: str, said: tuple[Any, Any, Any]) -> tuple[tuple[Any, ...], tuple[bool, ...]]:
    """Division, profile and key area, a camera's id speaking where its line does not; and which of them it said."""
    facts = tuple(own if fact is None else fact for fact, own in zip(said, _camera(code), strict=True))
    return facts, tuple(a is None and b is not None for a, b in zip(said, facts, strict=True))


def _camera(code: str) -> tuple[int | None, str | None, bool | None]:
    """Division, profile and key area as a GB/T 28181 id has them; None where it says nothing of one."""
    parts = gb28181(code)
    assert parts
    place = today(parts.division)
    if parts.type not in CAMERA_TYPES:
        return place, None, None
    return place, "video", parts.industry in KEY_AREA_INDUSTRIES


_COLUMN_OF = {head: name for name, (_, chinese) in COLUMNS.items() for head in (name, *chinese)}
