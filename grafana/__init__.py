"""Dashboards as code: `python -m grafana.render` writes grafana/dashboards/. For development; not installed."""

import warnings

with warnings.catch_warnings():
    # The SDK prefers the second form of a dashboard; what Grafana provisions from files is the first.
    warnings.simplefilter("ignore", DeprecationWarning)
    import grafana_foundation_sdk.builders.dashboard
    import grafana_foundation_sdk.builders.geomap  # noqa: F401
