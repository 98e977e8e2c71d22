"""Settings: where they come from, and what is refused before anything connects."""

import pytest

from ingest.settings import SettingsError, load


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch):
    import os

    for name in [name for name in os.environ if name.startswith("GANZHI_")]:
        monkeypatch.delenv(name)


def test_the_environment_wins_over_the_file(monkeypatch, tmp_path):
    """A TOML file has the same names in lower case without the prefix."""
    file = tmp_path / "ganzhi.toml"
    file.write_text('client_id = "from-file"\nbatch_seconds = 0.5\n')
    monkeypatch.setenv("GANZHI_CLIENT_ID", "from-environment")
    settings = load(file)
    assert (settings.client_id, settings.batch_seconds) == ("from-environment", 0.5)


def test_a_value_can_be_read_from_a_file(monkeypatch, tmp_path):
    """GANZHI_X_FILE names it; the text is stripped."""
    secret = tmp_path / "url"
    secret.write_text("postgresql://ganzhi:geheim@db/ganzhi\n")
    monkeypatch.setenv("GANZHI_DATABASE_URL_FILE", str(secret))
    assert load().database_url.get_secret_value() == "postgresql://ganzhi:geheim@db/ganzhi"


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"MQTT_URL": "http://broker"}, "GANZHI_MQTT_URL"),
        ({"MQTT_VERSION": "4"}, "GANZHI_MQTT_VERSION"),
        ({"BATCH_SECONDS": "0"}, "GANZHI_BATCH_SECONDS"),
        ({"BATCH_SECONDS": "soon"}, "GANZHI_BATCH_SECONDS"),
        ({"UNKNOWN_TERMINALS": "perhaps"}, "GANZHI_UNKNOWN_TERMINALS"),
        ({"TOPICS": "ganzhi/v1/+/+/telemetry,ganzhi/v1/370102/#"}, "overlap"),
        ({"TOPICS": "$oc/devices/+/sys/properties/report", "SHARE_GROUP": "g"}, "delivers nothing"),
        ({"MQTT_CERT": "/cert.pem"}, "GANZHI_MQTT_KEY"),
        ({"BACTH_SECONDS": "1"}, "GANZHI_BACTH_SECONDS"),
        ({"MQTT_CA_FILE": "/nowhere/at/all"}, "/nowhere/at/all"),
        ({"RETENTION_RAW_DAYS": "0", "RETENTION_HOURLY_DAYS": "30"}, "GANZHI_RETENTION_HOURLY_DAYS"),
        ({"MAX_AGE_DAYS": "0", "RETENTION_HOURLY_DAYS": "3650"}, "GANZHI_RETENTION_HOURLY_DAYS"),
    ],
)
def test_what_cannot_work_is_refused(monkeypatch, values, says):
    """The fault names the setting."""
    for name, value in values.items():
        monkeypatch.setenv(f"GANZHI_{name}", value)
    with pytest.raises(SettingsError, match=says.replace("$", r"\$")):
        load()


@pytest.mark.parametrize("name", ["MQTT_URL", "DATABASE_URL"])
def test_a_fault_never_shows_a_secret(monkeypatch, name):
    """A URL that is wrong may still hold a password."""
    monkeypatch.setenv(f"GANZHI_{name}", "ftp://ganzhi:geheim@host:99999999")
    with pytest.raises(SettingsError) as fault:
        load()
    assert "geheim" not in str(fault.value)


@pytest.mark.parametrize(("batch", "window"), [(20_000, 60_000), (1, 100), (1_000_000, 65_534)])
def test_the_window_is_three_batches_within_the_protocol(batch, window):
    """65,535 is the default, which is not sent: a broker's own limit would rule."""
    settings = load(batch_readings=batch)
    assert settings.receive_maximum == window
    assert 3 * settings.batch_messages <= window


@pytest.mark.parametrize("kept", ["max_age_days", "retention_raw_days"])
def test_rollups_of_readings_that_stay_stay_too(monkeypatch, kept):
    """Readings kept for ever keep their rollups for ever, wherever that is said; otherwise the default counts."""
    assert load(client_id="x").retention_hourly_days == 3650
    assert load(**{kept: 0}).retention_hourly_days == 0
    monkeypatch.setenv(f"GANZHI_{kept.upper()}", "0")
    assert load().retention_hourly_days == 0
    assert load(client_id="x").retention_hourly_days == 0
