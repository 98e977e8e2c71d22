"""Of the dashboard Province: where it stands, by city and county. A click leads to the city's dashboard."""

from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models.dashboard import Panel

from grafana.figures import DOWN, FILLED, HEARD, INSTALLED, LIVE, TARGET, share
from grafana.panels import link, merged, place_map, ratio
from grafana.queries import named, of_observer

CITY_URL = "/d/ganzhi-city?var-city=${__data.fields.city}"


def maps() -> list[Builder[Panel]]:
    """Coverage on the map, and every city in a table."""
    return [
        place_map(
            "各市覆盖 / Coverage by city",
            "红色低于 70%，黄色低于 90%；无点表示没有目标。点击进入该市。"
            " / Red below 70 %, yellow below 90 %; no point: no target. A click leads to the city.",
            named(f"{share(FILLED, TARGET, 'city')}"),
            value="覆盖率 / Coverage",
            lookup="city",
            url=CITY_URL,
        ),
        place_map(
            "区县覆盖 / Coverage by county",
            "136 个区县的中心点；红色低于 70%，黄色低于 90%。无点表示没有分区县目标。"
            " / The centres of 136 counties, as no outlines are to be had. Red below 70 %, yellow below 90 %; "
            "no point: no target by county.",
            # A county's code begins with its city's.
            f"label_replace({named(of_observer('ganzhi_county_coverage_ratio'), 'county')}, "
            '"city", "${1}00", "county", "(....)..")',
            value="覆盖率 / Coverage",
            lookup="county",
            url=CITY_URL,
        ),
        merged(
            "各市一览 / Cities",
            "按覆盖率与联网率着色：红色的城市先看。点击进入该市。"
            " / Coloured by coverage and networking: see the red ones first. A click leads to the city.",
            {
                "登记 / installed": named(f"sum by (city) ({INSTALLED})"),
                "核实 / verified": named(f"sum by (city) ({HEARD})"),
                "在线 / live": named(f"sum by (city) ({LIVE})"),
                "联网率 / networking": named(share(LIVE, INSTALLED, "city")),
                "覆盖率 / coverage": named(share(FILLED, TARGET, "city")),
                "质量 / quality": named(f"max by (city) ({of_observer('ganzhi_quality_ratio')})"),
                "离线网关 / gateways down": named(f"sum by (city) ({DOWN})"),
            },
            {
                "city": link("城市 / City", CITY_URL),
                "联网率 / networking": ratio(),
                "覆盖率 / coverage": ratio(),
                "质量 / quality": ratio({None: "red", 0.9: "yellow", 0.98: "green"}),
            },
        ).height(14),
    ]
