"""The observer's figures that several panels of the province are made of, as PromQL."""

from grafana.queries import of_observer

INSTALLED = of_observer("ganzhi_terminals", 'state=~"live|overdue|lost|never_heard"')
HEARD = of_observer("ganzhi_terminals", 'state=~"live|overdue|lost"')
LIVE = of_observer("ganzhi_terminals", 'state="live"')
TARGET = of_observer("ganzhi_terminals_target")
FILLED = f"{of_observer('ganzhi_coverage_ratio')} * {TARGET}"
"""Live terminals that fill a target: what the ratio of each city and domain counts, so that they can be summed."""
DOWN = of_observer("ganzhi_gateways", 'state=~"offline|silent"')


def share(part: str, whole: str, by: str = "") -> str:
    """One sum of the observer's over another."""
    group = f" by ({by})" if by else ""
    return f"sum{group} ({part}) / sum{group} ({whole})"
