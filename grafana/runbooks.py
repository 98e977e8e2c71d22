"""The dashboard Runbooks: docs/runbooks/ as text, so that whoever is called at night needs no other page.

One folded row an alert, by its name.
"""

import re
from pathlib import Path

from grafana_foundation_sdk.builders import text
from grafana_foundation_sdk.builders.dashboard import Dashboard, Row
from grafana_foundation_sdk.models.text import TextMode

from grafana.board import dashboard

FOLDER = Path(__file__).parents[1] / "docs/runbooks"
BOARD = re.compile(r"\(\.\./\.\./grafana/dashboards/(\w+)\.json\)")
FILE = re.compile(r"\[([^\]]+)\]\((?!/d/|https?:)[^)]+\)")


def _content(path: Path) -> str:
    """Links to dashboards lead to them; those to other files of the repository, which isn't here, are words."""
    return FILE.sub(r"\1", BOARD.sub(r"(/d/ganzhi-\1)", path.read_text(encoding="utf-8")))


def runbooks() -> Dashboard:
    """Every runbook."""
    board = dashboard(
        "ganzhi-runbooks",
        "感知 · 处置手册 / Ganzhi · Runbooks",
        "每条报警的含义、影响、诊断与处置 / Meaning, impact, diagnosis and mitigation of each alert",
        refresh="",
    )
    for path in sorted(FOLDER.glob("*.md")):
        panel = (
            text.Panel()
            .title(f"处置手册 / {path.stem}")
            .description(f"报警 {path.stem} 触发时阅读 / To be read when {path.stem} fires")
            .mode(TextMode.MARKDOWN)
            .content(_content(path))
            .span(24)
            .height(30)
        )
        board.with_row(Row(path.stem).collapsed(True).with_panel(panel))
    return board
