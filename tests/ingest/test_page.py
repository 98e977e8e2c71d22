"""The observer's page: over HTTP, in a real browser, and as the observer serves it."""

import asyncio
import base64
import json
import re
import shutil
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import pytest
from starlette.applications import Starlette

from devices import coverage
from devices.coverage import Grid
from devices.day import day_of
from devices.division import DIVISIONS, DOMAINS, PROVINCE
from devices.gap import Gap
from devices.indicator import Row
from devices.report import KindCount, Plan, Snapshot, Summary, last_days
from devices.tally import Counts
from ingest import http, service
from ingest.page import Page
from ingest.round import Seen
from ingest.settings import Settings

NOW = 1_795_300_000.0
"""2026-11-22 06:26 in Shandong."""
TODAY = day_of(NOW)
CHROMIUM = shutil.which("chromium")
QUIET = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
         "--disable-background-networking", "--disable-component-update", "--hide-scrollbars")  # fmt: skip
BAD_NAME = "<script>document.title='taken'</script>"
TARGETS = {(370100, "municipal"): 1_000, (370200, "municipal"): 400_000_000}


def seen(live=900, at=NOW, gaps=2):
    """A look at 137 million terminals of two cities: so many live in Jinan; gaps, the largest behind a bad name."""
    grid = Grid(dict(enumerate((code, domain) for code in DIVISIONS for domain in DOMAINS)))
    none = np.zeros(grid.size, np.int64)
    states = np.zeros((grid.size, 7), np.int64)
    states[grid.id[370102, "municipal"]] = (0, 5, live, 0, 10, 0, 0)
    states[grid.id[370200, "municipal"]] = (0, 0, 137_000_000, 0, 0, 0, 0)
    counts = Counts(at, states, states[:, 2], none, none, none, none, none, none, none,
                    np.zeros((grid.size, 6), np.int64), none, none)  # fmt: skip
    found = [Gap("gateway_offline", 370100, None, BAD_NAME, NOW - 60, 10_000, 0, {"maintenance": 3}, 1)]
    found += [Gap("dark", 370102, "municipal", None, NOW - n, 50 + n, 0, {}, n) for n in range(2, gaps + 1)]
    return Seen(coverage.report(counts, grid, TARGETS, ()), found, Counter(), past=past())


def past():
    """30 days ago there were 100 million."""
    then = {("terminals_verified", PROVINCE): Row("terminals_verified", PROVINCE, None, None, 1e8)}
    days = [(TODAY - timedelta(days=n), 137e6 - n * 1e6) for n in range(30, -1, -1)]
    return Summary(PROVINCE, last_days(TODAY), date(2027, 12, 31), then=Snapshot(TODAY - timedelta(days=30), then),
                   plan=Plan(3, ("declared",), ((date(2026, 1, 1), 250_000_000),)), trend={"terminals_verified": days},
                   gap_kinds={"dark": KindCount(4, 3, 2, 1, 9)})  # fmt: skip


@asynccontextmanager
async def serving(look=seen, clock=lambda: NOW, **settings):
    """The port of a server of the page."""
    chosen = Settings(observe_seconds=5, **settings)
    server = http.server(Starlette(routes=Page(chosen, look, clock).routes()), chosen)
    with service.listen("127.0.0.1", 0) as listening:
        running = asyncio.create_task(server.serve([listening]))
        try:
            yield listening.getsockname()[1]
        finally:
            server.should_exit = True
            await running


async def get(port, path="/", **headers):
    """Status, headers and body."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{lines}\r\n".encode())
    async with asyncio.timeout(30):
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    return int(head.split()[1]), head.decode(), body.decode()


async def test_figures_of_the_last_look():
    """Page and JSON say what the look counted, against 30 days ago; both know all gaps, the page lists 200."""
    async with serving(lambda: look) as port:
        look = seen(gaps=250)
        status, head, page = await get(port)
        assert (status, "content-language: zh" in head) == (200, True)
        assert "已核实 137,000,910 台" in page
        assert "1.37亿" in page
        assert "完成全省目标 3亿 台的 45.7%" in page
        assert "+37,000,910" in page
        assert "现在有 250 处失联" in page
        assert "全部失联 249，大面积掉线 0，网关离线 1；全部缺口 250" in page
        assert page.count("<tr data-gap=") == 200
        assert re.search(r'data-city="370100" d="[^"]*"><title>济南市 · 有效覆盖率 90.0%', page)
        assert '<path class="c4" data-city="370100"' in page
        assert '<path class="none" data-city="370300"' in page
        assert len(page) < 250_000
        _, _, text = await get(port, "/coverage.json")
        said = json.loads(text)
        assert said["gaps"]["open"] == 250
        assert said["gaps"]["kinds"]["dark"] == {"opened": 4, "closed": 3, "opened_before": 2, "closed_before": 1,
                                                 "open": 249}  # fmt: skip
        assert said["trend"]["terminals_verified"][-1] == [TODAY.isoformat(), 137_000_910]
        look = seen(live=500)
        assert "已核实 137,000,510 台" in (await get(port))[2]


async def test_languages():
    """The address decides, then the browser's wish, then Chinese."""
    async with serving() as port:
        for path, wish, said in (("/?lang=en", "zh", "terminals verified"), ("/", "en-GB", "terminals verified"),
                                 ("/", "fr", "已核实"),
                                 ("/?lang=zh", "en", "已核实"), ("/?lang=<x>", "", "已核实")):  # fmt: skip
            assert said in (await get(port, path, Accept_Language=wish))[2]


async def test_before_the_first_count_and_after_the_last():
    """Nothing counted is no page of zeros; figures that stand still say so."""
    async with serving(lambda: None) as port:
        status, _, page = await get(port)
        assert (status, "正在读取数据库" in page, "已核实" in page) == (503, True, False)
        assert (await get(port, "/coverage.json"))[0] == 503
    async with serving(clock=lambda: NOW + 316) as port:
        assert "数据已停止更新" in (await get(port))[2]
    async with serving(lambda: replace(seen(), past=None), clock=lambda: NOW + 300) as port:
        status, _, page = await get(port, "/?lang=en")
        assert (status, "stand still" in page, "No figures of the period before" in page) == (
            200,
            False,
            True,
        )


async def test_a_token_is_the_password():
    """With a token set nobody reads without it: a browser gives it as a password, a program as it does elsewhere."""
    token = "a-token-of-tests"
    async with serving(http_token=token) as port:
        for path in ("/", "/coverage.json"):
            status, head, _ = await get(port, path)
            assert (status, "basic" in head.lower()) == (401, True)
            basic = base64.b64encode(f"王工:{token}".encode()).decode()
            for given, expected in ((f"Basic {basic}", 200), (f"Bearer {token}", 200), ("Basic !", 401),
                                    ("Basic eDp5", 401), ("Basic é", 401), ("Bearer é", 401),
                                    ("Bearer x", 401)):  # fmt: skip
                assert (await get(port, path, Authorization=given))[0] == expected


async def browse(url, folder, *options):
    """The document that Chromium has after its scripts ran for so long."""
    command = [CHROMIUM, *QUIET, f"--user-data-dir={folder}", *options, "--dump-dom", url]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE,
                                                   stderr=asyncio.subprocess.DEVNULL)  # fmt: skip
    async with asyncio.timeout(60):
        out, _ = await process.communicate()
    return out.decode()


@pytest.mark.skipif(
    not CHROMIUM, reason="no Chromium: the page is not looked at in a browser; apt install chromium"
)
async def test_in_a_browser_it_renews_itself(tmp_path):
    """Its script runs under its own policy, brings newer figures, and runs nothing that comes from a gateway's name."""
    looks = []

    def look():
        looks.append(1)
        return seen(live=900 + len(looks))

    async with serving(look) as port:
        document = await browse(f"http://127.0.0.1:{port}/?lang=en", tmp_path, "--virtual-time-budget=12000")
    assert len(looks) >= 2
    shown = re.search(r'id="verified">.*?class="big">([\d,]+)', document, re.DOTALL)[1]
    assert shown != "137,000,911"
    assert "<title>Shandong: sensing terminals</title>" in document
    assert "&lt;script&gt;document.title='taken'&lt;/script&gt;" in document
    assert document.count("<script") == 1
    assert '<p class="notice" id="lost" hidden="">' in document


@pytest.mark.parametrize("storage", ["postgres"])
def test_the_observer_serves_it(database, new_worker):
    """From its first look on: 60 installed terminals that nobody heard yet, and what the day's row of them becomes."""
    database.execute("""
        INSERT INTO terminal (id, code, scheme, division, domain, profile, state, installed_on, report_every)
        SELECT n, 'imei:' || n, 'imei', 370202, 'municipal', 'water_meter', 'installed', current_date - 100, '1 day'
        FROM generate_series(1, 60) AS n""")
    observer = new_worker("observe", observe_seconds=0.2)
    observer.start()
    observer.wait(lambda m: m("terminals_installed") == 60, "counting")
    status, page = observer.get("?lang=en")
    assert status == 200
    assert re.search(r'id="installed">.*?class="big">60<', page, re.DOTALL)
    assert "against plan version 1 (assumed)" in page
    said = json.loads(observer.get("coverage.json")[1])
    assert said["trend"]["terminals_installed"] == [[said["day"], 60]]
