"""Routes files: what follows from a good one, and what is said of a broken one."""

import pytest

from schemas.routes import Place, Routes, RoutesError

ROW = '[[route]]\nfilter = "{}"\nname = "{}"\ndecoder = "{}"\n'


@pytest.fixture
def routes_of(tmp_path):
    def load(text):
        file = tmp_path / "routes.toml"
        file.write_text(text, encoding="utf-8")
        return Routes.from_file(file)

    return load


def test_default_takes_telemetry():
    """The service's own routes take the telemetry topic and read its place."""
    routes = Routes.default()
    topic = "ganzhi/v1/370102/gw-1.a/telemetry"
    route = routes.match(topic)
    assert "ganzhi/v1/+/+/telemetry" in routes.filters
    assert (route.name, route.decoder) == ("telemetry", "telemetry")
    assert routes.place(topic, route) == Place(370102, "gw-1.a")


@pytest.mark.parametrize(
    ("topic", "expected"),
    [
        ("ganzhi/v1/37010/g/telemetry", Place(None, "g")),
        ("ganzhi/v1/3701020/g/telemetry", Place(None, "g")),
        ("ganzhi/v1/３７０１０２/g/telemetry", Place(None, "g")),
        ("ganzhi/v1/370102//telemetry", Place(370102, None)),
        ("ganzhi/v1/370102/网关/telemetry", Place(370102, None)),
        ("ganzhi/v1/370102/" + "g" * 64 + "/telemetry", Place(370102, "g" * 64)),
        ("ganzhi/v1/370102/" + "g" * 65 + "/telemetry", Place(370102, None)),
    ],
)
def test_place_of_wrong_form_is_none(topic, expected):
    """A division that is not six digits, or a gateway outside its pattern, is None."""
    routes = Routes.default()
    assert routes.place(topic, routes.match(topic)) == expected


def test_services_apart(routes_of, tmp_path):
    """A file may say which of Huawei's services are named in their metrics, and nothing else."""
    assert Routes.default().services_apart == frozenset()
    assert routes_of('[iotda]\nservices_apart = ["Fire", "Tank"]\n').services_apart == {"Fire", "Tank"}
    assert Routes.load(tmp_path / "routes.toml").services_apart == {"Fire", "Tank"}
    with pytest.raises(RoutesError, match="services"):
        routes_of("[iotda]\nservices = []\n")


@pytest.mark.parametrize(
    ("topic", "sender"),
    [
        ("ganzhi/v1/370102/gw/telemetry", "gw"),
        ("ganzhi/v1/370102/gw/presence", "gw"),
        ("nbiot/ctwing/bridge", "bridge"),
        ("spBv1.0/plant/NBIRTH/node", "plant/node"),
        ("spBv1.0/plant/DDATA/node/device", "plant/node"),
        ("spBv1.0/plant/STATE/node", "spBv1.0/plant/STATE/node"),
        ("vendor/x/up", "vendor/x/up"),
        ("other/gw-7/up", "gw-7"),
    ],
)
def test_sender(routes_of, tmp_path, topic, sender):
    """All topics of a gateway and of a Sparkplug node have one sender; a topic that names neither is its own."""
    routes_of(
        ROW.format("vendor/+/up", "a", "telemetry") + ROW.format("other/{gateway}/up", "b", "telemetry")
    )
    assert Routes.load(tmp_path / "routes.toml").sender(topic) == sender


def test_unknown_topic():
    """A topic outside every filter has no route."""
    assert Routes.default().match("ganzhi/v1/370102/g/unheard-of") is None


def test_several_routes(routes_of):
    """Each topic finds its own route; levels without a place say nothing of where."""
    routes = routes_of(
        ROW.format("nbiot/ctwing/{gateway}", "ctwing", "ctwing")
        + ROW.format("spBv1.0/{group}/+/#", "sparkplug", "sparkplug")
    )
    assert routes.filters == ("nbiot/ctwing/+", "spBv1.0/+/+/#")
    ctwing = routes.match("nbiot/ctwing/bridge-1")
    assert routes.place("nbiot/ctwing/bridge-1", ctwing) == Place(None, "bridge-1")
    sparkplug = routes.match("spBv1.0/plant/NDATA/edge/device")
    assert sparkplug.places == {"group": 1}
    assert routes.place("spBv1.0/plant/NDATA/edge/device", sparkplug) == Place(None, None)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "route"),
        ("route = []", "no route"),
        ("[[route]", "TOML|table|Expected"),
        ('[[route]]\nfilter = "a"\nname = "a"\n', "decoder"),
        ('[[route]]\nfilter = "a"\nname = "a"\ndecoder = "a"\nqos = 1\n', "qos"),
        (ROW.format("a/#", "a", "a") + ROW.format("a/{gateway}", "b", "b"), "overlap"),
        (ROW.format("a/#/b", "a", "a"), "a/#/b"),
        (ROW.format("a/x+", "a", "a"), "a/x"),
        (ROW.format("a/{B}", "a", "a"), "a/{B}"),
        (ROW.format("{x}/{x}", "a", "a"), "twice"),
        (ROW.format("$share/g/a", "a", "a"), "share"),
        (ROW.format("", "a", "a"), "filter ''"),
        (ROW.format("a", "A b", "a"), "A b"),
    ],
)
def test_broken_file_is_explained(routes_of, text, said):
    """A routes file that can't work is refused with the file's name and the fault."""
    with pytest.raises(RoutesError, match=said) as caught:
        routes_of(text)
    assert "routes.toml" in str(caught.value)


def test_missing_file(tmp_path):
    """A routes file that is not there is a broken one."""
    with pytest.raises(RoutesError, match="nowhere"):
        Routes.from_file(tmp_path / "nowhere.toml")
