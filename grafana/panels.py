"""The panels that all dashboards are made of. The dashboards are the modules beside it.

Every panel has a title and a description in Chinese and English (operators read the one, the code speaks the
other), a unit, and says what bad looks like: red means that somebody must act. A dashboard has 24 columns.
"""

from collections.abc import Iterable, Mapping, Sequence
from string import ascii_uppercase

from grafana_foundation_sdk.builders import common as common_builders
from grafana_foundation_sdk.builders import geomap, stat, table, timeseries
from grafana_foundation_sdk.builders.dashboard import (
    DashboardLink,
    ThresholdsConfig,
)
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.variants import Dataquery as AnyDataquery
from grafana_foundation_sdk.models import common, units
from grafana_foundation_sdk.models.dashboard import (
    DashboardLinkType,
    DataTransformerConfig,
    DynamicConfigValue,
    Threshold,
    ThresholdsMode,
    ValueMap,
    ValueMappingResult,
)
from grafana_foundation_sdk.models.geomap import MapCenterID, TooltipMode
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from grafana.queries import POSTGRES, PROMETHEUS, Sql

RUNBOOKS = DashboardLink("处置手册 / Runbooks").type(DashboardLinkType.LINK).url("/d/ganzhi-runbooks")
LEGEND = (
    common_builders.VizLegendOptions()
    .show_legend(True)
    .display_mode(common.LegendDisplayMode.LIST)
    .placement(common.LegendPlacement.BOTTOM)
)
TOOLTIP = (
    common_builders.VizTooltipOptions()
    .mode(common.TooltipDisplayMode.MULTI)
    .sort(common.SortOrder.DESCENDING)
)

Steps = Mapping[float | None, str]
"""Colour from this value on; None is the base, below every number."""
PLAIN: Steps = {None: "text"}
"""A figure that is neither good nor bad."""
BAD_ABOVE_ZERO: Steps = {None: "green", 0.5: "red"}
UP: Steps = {None: "red", 1: "green"}
STUCK_SECONDS: Steps = {None: "green", 10: "yellow", 60: "red"}
"""60 s is the alert's limit; a batch takes well under a second, so 10 s is already a stall."""
COVERED: Steps = {None: "red", 0.7: "yellow", 0.9: "green"}
"""0.9 is where a place counts as covered, and the goal of the video ratios."""
STALE_SECONDS: Steps = {None: "green", 90: "yellow", 300: "red"}
"""The observer looks every 30 s: three looks missed, then ten."""

Columns = Mapping[str, Mapping[str, object]]
"""By a column's name: properties of Grafana's field options, such as unit."""


def _queries(by_legend: Mapping[str, str]) -> list[Builder[AnyDataquery]]:
    """PromQL by legend, lettered A, B, C as Grafana does."""
    return [
        Dataquery().expr(expr).legend_format(legend or "__auto").ref_id(ref_id)
        for ref_id, (legend, expr) in zip(ascii_uppercase, by_legend.items(), strict=False)
    ]


def _thresholds(steps: Steps) -> ThresholdsConfig:
    colours = [Threshold(value, colour) for value, colour in steps.items()]
    return ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(colours)


def number(title: str, description: str, unit: str, query: str | Sql, steps: Steps) -> stat.Panel:
    """One number of a top row, coloured by its state; eight of them fill the row."""
    panel = stat.Panel()
    if isinstance(query, Sql):
        panel.datasource(POSTGRES).targets([query])
    else:
        panel.datasource(PROMETHEUS).targets(_queries({"": query}))
    return (
        panel.title(title)
        .description(description)
        .unit(unit)
        .thresholds(_thresholds(steps))
        .reduce_options(common_builders.ReduceDataOptions().calcs(["lastNotNull"]))
        .color_mode(common.BigValueColorMode.NONE if steps is PLAIN else common.BigValueColorMode.BACKGROUND)
        .links([RUNBOOKS])
        .height(4)
        .span(3)
    )


def numbers(title: str, description: str, unit: str, queries: Mapping[str, str]) -> stat.Panel:
    """Several numbers side by side, each with its name."""
    return (
        number(title, description, unit, "", PLAIN)
        .targets(_queries(queries))
        .text_mode(common.BigValueTextMode.VALUE_AND_NAME)
        .span(12)
    )


def state(title: str, description: str, expr: str) -> stat.Panel:
    """1 and 0 as words."""
    words = {
        "1": ValueMappingResult(text="正常 / up", index=0),
        "0": ValueMappingResult(text="断开 / down", index=1),
    }
    return number(title, description, units.Bool, expr, UP).mappings([ValueMap(words)])


def lines(
    title: str, description: str, unit: str, queries: Mapping[str, str] | Sql, steps: Steps | None = None
) -> timeseries.Panel:
    """Curves over time, PromQL by their legends; with `steps`, the limits are drawn as lines."""
    panel = (
        timeseries.Panel()
        .title(title)
        .description(description)
        .unit(unit)
        .legend(LEGEND)
        .tooltip(TOOLTIP)
        .axis_soft_min(0)
        .fill_opacity(8)
        .show_points(common.VisibilityMode.AUTO)
        .height(8)
        .span(12)
    )
    if isinstance(queries, Sql):
        panel.datasource(POSTGRES).targets([queries])
    else:
        panel.datasource(PROMETHEUS).targets(_queries(queries))
    if steps:
        style = common_builders.GraphThresholdsStyleConfig().mode(common.GraphThresholdsStyleMode.DASHED)
        panel.thresholds(_thresholds(steps)).thresholds_style(style)
    return panel


def rows(title: str, description: str, query: Sql, columns: Columns | None = None) -> table.Panel:
    """A table of what SQL answers."""
    panel = _table(title, description, columns or {})
    return panel.datasource(POSTGRES).targets([query])


def merged(
    title: str, description: str, by_column: Mapping[str, str], columns: Columns, hidden: Sequence[str] = ()
) -> table.Panel:
    """A table of what instant PromQL answers now: a row for each set of labels, a column for each query."""
    queries = _instant(by_column.values())
    names = dict(zip((f"Value #{letter}" for letter in ascii_uppercase), by_column, strict=False))
    names["Value"] = next(iter(by_column))  # so called where there is one query only
    panel = _table(title, description, columns).datasource(PROMETHEUS).targets(queries)
    return panel.transformations([_step("merge", {}), _organised(names, hidden)])


def _table(title: str, description: str, columns: Columns) -> table.Panel:
    panel = table.Panel().title(title).description(description).unit(units.Short).span(24).height(9)
    for name, properties in columns.items():
        panel.override_by_name(name, _properties(properties))
    return panel


def _properties(of_column: Mapping[str, object]) -> list[DynamicConfigValue]:
    return [DynamicConfigValue(*item) for item in of_column.items()]


def _instant(queries: Iterable[str]) -> list[Builder[AnyDataquery]]:
    return [
        Dataquery().expr(expr).format(PromQueryFormat.TABLE).instant().ref_id(ref_id)
        for ref_id, expr in zip(ascii_uppercase, queries, strict=False)
    ]


def _organised(names: Mapping[str, str], hidden: Sequence[str]) -> DataTransformerConfig:
    options = {"excludeByName": dict.fromkeys(["Time", *hidden], True), "renameByName": dict(names)}
    return _step("organize", options)


def _step(name: str, options: Mapping[str, object]) -> DataTransformerConfig:
    return DataTransformerConfig(id_val=name, options=options)


def ratio(steps: Steps = COVERED) -> Mapping[str, object]:
    """A column of ratios, coloured."""
    return {
        "unit": units.PercentUnit,
        "decimals": 1,
        "thresholds": _thresholds(steps).build(),
        "color": {"mode": "thresholds"},
        "custom.cellOptions": {"type": "color-background", "mode": "basic"},
    }


def when() -> Mapping[str, object]:
    """A column of times, as how long ago."""
    return {"unit": units.DateTimeFromNow}


def link(title: str, url: str) -> Mapping[str, object]:
    """A column that leads to another dashboard; the time range goes along."""
    return {"links": [{"title": title, "url": url + "&${__url_time_range}"}]}


def place_map(
    title: str, description: str, query: str | Sql, *, value: str, lookup: str, url: str = ""
) -> geomap.Panel:
    """Markers on the outlines of the 16 cities, without any map from the internet.

    A row of the query is a place: `lookup` is the column with its code, whose point grafana/maps/divisions.json
    has, `value` the ratio that colours it, `url` where a click leads.
    """
    outlines = _layer("geojson", "市界 / Cities", {
        "src": "public/ganzhi/shandong_cities.geojson",
        "style": {"color": {"fixed": "text"}, "opacity": 0.1, "lineWidth": 1},
        "rules": [],
    })  # fmt: skip
    markers = _layer("markers", value, {
        "showLegend": True,
        "style": {
            "color": {"field": value, "fixed": "text"},
            "size": {"fixed": 9, "min": 2, "max": 15},
            "symbol": {"mode": "fixed", "fixed": "img/icons/marker/circle.svg"},
            "opacity": 0.9,
        },
    })  # fmt: skip
    markers.location(
        common_builders.FrameGeometrySource()
        .mode(common.FrameGeometrySourceMode.LOOKUP)
        .lookup(lookup)
        .gazetteer("public/ganzhi/divisions.json")
    )
    panel = (
        geomap.Panel()
        .title(title)
        .description(description)
        .unit(units.PercentUnit)
        .decimals(1)
        .thresholds(_thresholds(COVERED))
        .view(geomap.MapViewConfig().id(MapCenterID.COORDS).lat(36.4).lon(118.9).zoom(7))
        .controls(geomap.ControlsOptions().show_zoom(True).mouse_wheel_zoom(False).show_attribution(True))
        .tooltip(geomap.TooltipOptions().mode(TooltipMode.DETAILS))
        .basemap(outlines)
        .layers([markers])
        .height(14)
        .span(12)
    )
    if url:
        panel.override_by_name(value, _properties(link("城市 / City", url)))
    if isinstance(query, Sql):
        return panel.datasource(POSTGRES).targets([query])
    names = {"Value": value, "Value #A": value}
    panel.datasource(PROMETHEUS).targets(_instant([query]))
    return panel.transformations([_organised(names, ())])


def _layer(kind: str, name: str, config: Mapping[str, object]) -> common_builders.MapLayerOptions:
    return common_builders.MapLayerOptions().type(kind).name(name).config(config).tooltip(True)


FIRING = 'ALERTS{alertstate="firing", alertname=~"Ganzhi.*"}'


def firing() -> stat.Panel:
    """First in the top row of every dashboard that asks Prometheus."""
    return number(
        "正在报警 / Alerts firing",
        "红色表示有报警：全省页与接入页列出名称，标题栏链接打开处置手册。"
        " / Red while an alert fires: Province and Ingest list the names, the link in the title leads to the runbooks.",
        units.Short,
        f"count({FIRING}) or vector(0)",
        BAD_ABOVE_ZERO,
    )


def alerts() -> table.Panel:
    """Which alerts fire; a click leads to the runbooks."""
    runbook = link("处置手册 / Runbooks", "/d/ganzhi-runbooks?")
    return merged(
        "报警列表 / Alerts",
        "空表为正常；每行一条报警，点击名称打开处置手册，severity 为 critical 的先处理。"
        " / Empty when all is well. A row an alert; a click on its name leads to the runbooks; critical first.",
        {"数 / count": f"count by (alertname, severity, instance, city) ({FIRING})"},
        {"alertname": runbook},
    ).height(5)
