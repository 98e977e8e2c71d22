"""`python -m grafana.render` writes the dashboards that are provisioned; a test compares the files with it.

Also the points of grafana/maps/divisions.json, which maps place their markers by.
"""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from statistics import fmean

from grafana_foundation_sdk.builders.dashboard import Dashboard
from grafana_foundation_sdk.cog.encoder import JSONEncoder

from devices.division import DIVISIONS
from devices.division import city as city_of
from grafana.city import city
from grafana.ingest import ingest
from grafana.province import province
from grafana.quality import quality
from grafana.runbooks import runbooks
from grafana.terminal import terminal

FOLDER = Path(__file__).parent / "dashboards"
MAPS = Path(__file__).parent / "maps"
DASHBOARDS: dict[str, Callable[[], Dashboard]] = {
    "province.json": province,
    "city.json": city,
    "ingest.json": ingest,
    "quality.json": quality,
    "terminal.json": terminal,
    "runbooks.json": runbooks,
}


def render() -> dict[str, str]:
    """The text of every dashboard by its file name."""
    return {name: text(make()) for name, make in DASHBOARDS.items()}


def text(board: Dashboard) -> str:
    """A dashboard as Grafana reads it, its panels numbered."""
    built = board.build()
    inner = [panel for row in built.panels or [] for panel in getattr(row, "panels", None) or []]
    for number, panel in enumerate([*(built.panels or []), *inner], 1):
        panel.id_val = number  # links to a panel and alerts' pictures name it
    for link in built.links:
        link.placement = None  # else the SDK hides them in a menu
    return json.dumps(built, cls=JSONEncoder, ensure_ascii=False, indent=2, sort_keys=True) + "\n"


def points() -> str:
    """A point for each county, and for each city the middle of its counties', as Grafana's gazetteers are."""
    with (MAPS / "county_centroids.csv").open(encoding="utf-8") as file:
        found = {int(row["code"]): (float(row["lon"]), float(row["lat"])) for row in csv.DictReader(file)}
    for code in {city_of(county) for county in found}:
        within = [point for county, point in found.items() if DIVISIONS[county].parent == code]
        found[code] = fmean(lon for lon, _ in within), fmean(lat for _, lat in within)
    places = [
        {"key": str(code), "name": f"{DIVISIONS[code].name_zh} {DIVISIONS[code].name_en}",
         "longitude": round(lon, 4), "latitude": round(lat, 4)}
        for code, (lon, lat) in sorted(found.items())
    ]  # fmt: skip
    return json.dumps(places, ensure_ascii=False, indent=1) + "\n"


if __name__ == "__main__":
    for name, content in render().items():
        (FOLDER / name).write_text(content, encoding="utf-8")
    (MAPS / "divisions.json").write_text(points(), encoding="utf-8")
