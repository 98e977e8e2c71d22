"""A dashboard without its panels: variables, links, and rows that take the panels."""

from collections.abc import Iterable, Mapping

from grafana_foundation_sdk.builders.dashboard import (
    Dashboard,
    DashboardLink,
    DatasourceVariable,
    QueryVariable,
    Row,
)
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    Panel,
    VariableOption,
    VariableRefresh,
)

from grafana.queries import JOB, PROMETHEUS

Panels = Iterable[Builder[Panel]]


def _all(variable: QueryVariable) -> QueryVariable:
    everything = VariableOption(selected=True, text=["All"], value=["$__all"])
    return variable.multi(True).include_all(True).all_value(".+").current(everything)


def job_variable() -> QueryVariable:
    """Which scrape jobs, of workers and observers: installations that share a Prometheus are told apart by them."""
    ours = '{__name__=~"ganzhi_build_info|ganzhi_division_info"}'
    return _all(_query_variable("job", "任务 / Job", f"label_values({ours}, job)"))


def instance_variable() -> QueryVariable:
    """Which workers of the chosen jobs."""
    return _all(
        _query_variable("instance", "实例 / Instance", f"label_values(ganzhi_build_info{{{JOB}}}, instance)")
    )


def city_variable() -> QueryVariable:
    """One city, shown by its Chinese and English name, known by its code."""
    cities = f'ganzhi_division_info{{{JOB}, code=~"37[0-9]{{2}}00", code!="370000"}}'
    shown = f'max by (code, shown) (label_join({cities}, "shown", " ", "name_zh", "name_en"))'
    return (
        _query_variable("city", "城市 / City", f"query_result({shown})")
        .regex('/code="(?<value>[0-9]+)".*shown="(?<text>[^"]+)"/')
        .current(VariableOption(selected=True, text="济南市 Jinan", value="370100"))
    )


def _query_variable(name: str, label: str, query: str) -> QueryVariable:
    return (
        QueryVariable(name)
        .label(label)
        .datasource(PROMETHEUS)
        .query({"query": query, "refId": f"{name}"})
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
    )


def prometheus_variable() -> DatasourceVariable:
    """The Prometheus that is asked."""
    return DatasourceVariable("datasource").label("数据源 / Data source").type("prometheus")


def postgres_variable(only: str = "") -> DatasourceVariable:
    """The database that is asked; `only` that of this name, which nobody can change."""
    variable = (
        DatasourceVariable("postgres_datasource")
        .label("数据库 / Database")
        .type("grafana-postgresql-datasource")
    )
    return variable.regex(f"/^{only}$/") if only else variable


def dashboard(uid: str, title: str, description: str, *, hours: int = 24, refresh: str = "1m") -> Dashboard:
    """A dashboard that nobody edits in the browser, with links to all others that keep variables and time."""
    others = (
        DashboardLink("感知 / Ganzhi")
        .type(DashboardLinkType.DASHBOARDS)
        .tags(["ganzhi"])
        .include_vars(True)
        .keep_time(True)
    )
    return (
        Dashboard(title)
        .uid(uid)
        .tags(["ganzhi"])
        .readonly()
        .description(description)
        .time(f"now-{hours}h", "now")
        .refresh(refresh)
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .link(others)
    )


def fill(board: Dashboard, by_row: Mapping[str, Panels]) -> Dashboard:
    """Put panels on a dashboard, row by row."""
    for title, panels in by_row.items():
        board.with_row(Row(title))
        for panel in panels:
            board.with_panel(panel)
    return board
