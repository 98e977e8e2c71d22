"""`python -m grafana.folder 370100 OUT --org 2`: what Grafana provisions for one city's own readers.

Writes OUT/cities/370100/*.json, and a data source and a folder below OUT/provisioning/. The data source logs in
as the city's reader (docs/roles.md), who sees its own rows only. Folders hide dashboards, not data: whoever may view
anything in an organisation of Grafana may ask each of its data sources. So a city has an organisation of its own,
without Prometheus (docs/dashboards.md).
"""

import argparse
import json
from pathlib import Path

from devices.division import DIVISIONS, Division
from grafana.city import city
from grafana.render import text
from grafana.terminal import terminal

MOUNT = "/etc/ganzhi/grafana"
"""Where docker-compose.yml mounts grafana/."""


def files(own: Division, org: int, database: str) -> dict[str, str]:
    """Everything of a city's folder, text by path; `org`: its organisation in Grafana, `database`: host:port."""
    role = f"ganzhi_reader_{own.code}"
    source = {
        "name": f"Ganzhi {own.code}",
        "uid": f"ganzhi-{own.code}",
        "orgId": org,
        "type": "grafana-postgresql-datasource",
        "url": database,
        "user": role,
        "editable": False,
        "secureJsonData": {"password": f"$__file{{/run/secrets/{role}}}"},
        "jsonData": {"database": "ganzhi", "sslmode": "disable", "postgresVersion": 1500},
    }
    folder = {
        "name": f"ganzhi-{own.code}",
        "orgId": org,
        "folder": f"{own.name_zh} / {own.name_en}",
        "folderUid": f"ganzhi-{own.code}",
        "type": "file",
        "allowUiUpdates": False,
        "disableDeletion": True,
        "options": {"path": f"{MOUNT}/cities/{own.code}"},
    }
    return {
        f"cities/{own.code}/city.json": text(city(own)),
        f"cities/{own.code}/terminal.json": text(terminal(own)),
        f"provisioning/datasources/ganzhi-{own.code}.yml": _yaml("datasources", source),
        f"provisioning/dashboards/ganzhi-{own.code}.yml": _yaml("providers", folder),
    }


def _yaml(name: str, entry: dict[str, object]) -> str:
    """JSON is YAML, and needs no library."""
    return json.dumps({"apiVersion": 1, name: [entry]}, ensure_ascii=False, indent=2) + "\n"


def _city(code: str) -> Division:
    found = DIVISIONS.get(int(code)) if code.isdecimal() else None
    if found is None or found.level != "city":
        raise argparse.ArgumentTypeError(f"{code} is no city of Shandong, such as 370100")
    return found


def main() -> None:
    """Write the files."""
    parser = argparse.ArgumentParser(prog="python -m grafana.folder", description=__doc__)
    parser.add_argument("city", type=_city, help="GB/T 2260 code, such as 370100")
    parser.add_argument("out", type=Path, help="folder that is written to")
    parser.add_argument("--org", type=int, required=True, help="number of the city's organisation in Grafana")
    parser.add_argument("--database", default="timescaledb:5432", help="host:port that Grafana connects to")
    given = parser.parse_args()
    for path, content in files(given.city, given.org, given.database).items():
        file = given.out / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content, encoding="utf-8")


if __name__ == "__main__":
    main()
