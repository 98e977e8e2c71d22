"""The HTTP side: who may read what, over TLS or not, and what a fault or a slow client costs."""

import asyncio
import json
import socket
import ssl
import time
from contextlib import asynccontextmanager

import pytest
from prometheus_client import CollectorRegistry, Gauge
from structlog.testing import capture_logs

from ingest import http, push, scrape, service
from ingest.settings import Settings, SettingsError, load
from ingest.sources import Pushes
from tests.certificates import Authority, key_of

TOKEN = "a-token-of-tests"
BIG = 40_000
"""Series; about 2 MB, more than a socket keeps."""


async def all_ready():
    """Nothing is missing."""
    return {}


@asynccontextmanager
async def door(refresh=lambda: None, ready=all_ready, series=1, **settings):
    """Server and port of the three endpoints."""
    chosen = Settings(**settings)
    registry = CollectorRegistry()
    gauge = Gauge("ganzhi_messages_in_flight", "Of tests", ["n"], registry=registry)
    for n in range(series):
        gauge.labels(n).set(1)
    server = http.server(http.application(registry, refresh, ready, chosen.http_token_text), chosen)
    with service.listen("127.0.0.1", 0) as listening:
        running = asyncio.create_task(server.serve([listening]))
        try:
            yield server, listening.getsockname()[1]
        finally:
            server.should_exit = True
            await running


async def ask(port, path, token="", tls=None):
    """Status and body."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls)
    authorization = f"Authorization: Bearer {token}\r\n" if token else ""
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{authorization}\r\n".encode())
    async with asyncio.timeout(30):
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    return int(head.split()[1]), body.decode()


async def missing():
    """What an operator may know and nobody else."""
    return {"database": "10.1.2.3 refuses"}


async def test_strangers_learn_yes_or_no_and_nothing_else():
    """Metrics and reasons take the token; health and readiness are for probes, which have none."""
    async with door(ready=missing, http_token=TOKEN) as (_, port):
        assert (await ask(port, "/metrics"))[0] == 401
        assert (await ask(port, "/metrics", "another-token-x"))[0] == 401
        status, body = await ask(port, "/metrics", TOKEN)
        assert (status, "ganzhi_messages_in_flight" in body) == (200, True)
        assert await ask(port, "/healthz") == (200, "ok\n")
        status, body = await ask(port, "/readyz")
        assert (status, json.loads(body)) == (503, {"ready": False})
        status, body = await ask(port, "/readyz", TOKEN)
        assert (status, json.loads(body)["missing"]) == (503, {"database": "10.1.2.3 refuses"})


async def test_strangers_look_together():
    """However many ask at once whether all is ready, the database is asked once."""
    looks = []

    async def ready():
        looks.append(1)
        await asyncio.sleep(0)
        return {}

    async with door(ready=ready, http_token=TOKEN) as (_, port):
        answers = await asyncio.gather(*(ask(port, "/readyz") for _ in range(20)))
    assert {status for status, _ in answers} == {200}
    assert len(looks) < 5


async def test_a_fault_is_a_number():
    """What went wrong is in the log under the number that is answered, and nowhere else."""

    def fault():
        raise RuntimeError("the inner workings")

    with capture_logs() as logs:
        async with door(refresh=fault) as (_, port):
            status, body = await ask(port, "/metrics?token=x")
    assert status == 500
    (log,) = logs
    assert json.loads(body) == {"fault": log["number"]}
    assert (log["path"], log["exc_info"]) == ("/metrics", True)


async def test_who_does_not_read_is_let_go(monkeypatch):
    """An answer that is not taken ends the connection, and frees its place."""
    monkeypatch.setattr(http, "HEAD_SECONDS", 0.1)
    monkeypatch.setattr(http, "ANSWER_SECONDS", 0.1)
    async with door(series=BIG) as (server, port):
        with socket.create_connection(("127.0.0.1", port)) as slow:
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            slow.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
            async with asyncio.timeout(30):
                while not server.server_state.total_requests or server.server_state.connections:
                    await asyncio.sleep(0.02)


def test_a_network_gets_nothing_by_accident(monkeypatch):
    """An address beyond this machine needs a token, client certificates, or the word that the network is private."""
    for host in ("0.0.0.0", "::", "10.0.0.1", "ganzhi.example", ""):
        with pytest.raises(SettingsError, match=r"GANZHI_HTTP_TOKEN_FILE.*GANZHI_HTTP_PRIVATE_NETWORK"):
            load(http_host=host)
        assert load(http_host=host, http_token=TOKEN).http_host == host
        assert load(http_host=host, http_private_network=True).http_host == host
    for host in ("127.0.0.1", "::1", "localhost", "127.0.0.2"):
        assert load(http_host=host).http_host == host


@pytest.mark.parametrize("settings", [
    {"http_cert": "x"}, {"http_client_ca": "x"}, {"http_token": "short"}, {"http_token": ""},
    {"mqtt_ca": "/nowhere/ca.crt"},
])  # fmt: skip
def test_what_cannot_be_meant_is_refused(settings):
    """Half a certificate, an authority without HTTPS, a token that is guessed or empty, a file that is not there."""
    with pytest.raises(SettingsError, match="GANZHI_"):
        load(**settings)


async def test_mutual_tls(tmp_path):
    """Only who shows a certificate of the authority reads; a renewed certificate is shown to the next."""
    authority, others = Authority(tmp_path), Authority(tmp_path, "others")
    web, stranger = authority.sign("web", hosts=("127.0.0.1",)), others.sign("stranger")
    settings = {"http_cert": web, "http_key": key_of(web), "http_client_ca": authority.file}
    async with door(**settings) as (server, port):
        tls = ssl.create_default_context(cafile=authority.file)
        tls.load_cert_chain(web, key_of(web))
        assert (await ask(port, "/metrics", tls=tls))[0] == 200
        assert "ganzhi_messages_in_flight" in await asyncio.to_thread(
            scrape.metrics, Settings(**settings), port
        )
        wrong = ssl.create_default_context(cafile=authority.file)
        wrong.load_cert_chain(stranger, key_of(stranger))
        with pytest.raises((ssl.SSLError, ConnectionError, IndexError)):
            await ask(port, "/metrics", tls=wrong)
        authority.sign("anew", file="web", hosts=("127.0.0.1",))
        server.renew()
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls)
        assert writer.get_extra_info("peercert")["subject"] == ((("commonName", "anew"),),)
        writer.close()
        with capture_logs() as logs:
            key_of(web).write_text("nothing")
            server.renew()
        assert [log["event"] for log in logs] == ["certificates_unusable"]
        del reader


async def test_half_a_renewal_changes_nothing(tmp_path):
    """A new certificate whose key has not come yet: the old one is shown on."""
    authority = Authority(tmp_path)
    web = authority.sign("web", hosts=("127.0.0.1",))
    tls = ssl.create_default_context(cafile=authority.file)
    async with door(http_cert=web, http_key=key_of(web)) as (server, port):
        old_key = key_of(web).read_text()
        authority.sign("anew", file="web", hosts=("127.0.0.1",))
        new_key = key_of(web).read_text()
        for key, event, shown in (
            (old_key, "certificates_unusable", "web"),
            (new_key, "certificates_renewed", "anew"),
        ):
            key_of(web).write_text(key)
            with capture_logs() as logs:
                server.renew()
            assert [log["event"] for log in logs] == [event]
            _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls)
            assert writer.get_extra_info("peercert")["subject"] == ((("commonName", shown),),)
            writer.close()


async def test_pushes_need_no_certificate(tmp_path):
    """Platforms show a token over the same HTTPS, also where readers of metrics show certificates."""
    authority = Authority(tmp_path)
    web = authority.sign("web", hosts=("127.0.0.1",))
    settings = Settings(http_cert=web, http_key=key_of(web), http_client_ca=authority.file, push_port=1,
                        push_token="ctwing=a-token-of-tests")  # fmt: skip
    app = push.Door(settings, Pushes(), lambda: True, time.time).application()
    server = http.server(app, settings, anybody=True)
    with service.listen("127.0.0.1", 0) as listening:
        running = asyncio.create_task(server.serve([listening]))
        tls = ssl.create_default_context(cafile=authority.file)
        path = "/push/onenet/g?msg=1&nonce=2&signature=3"
        assert (await ask(listening.getsockname()[1], path, tls=tls))[0] == 403
        server.should_exit = True
        await running


async def test_status_says_when_its_token_is_not_the_services():
    """A worker that refuses the token is there, and told apart from one that is not."""
    async with door(http_token=TOKEN) as (_, port):
        (answer,) = await asyncio.to_thread(scrape.workers, Settings(http_port=port))
        assert "GANZHI_HTTP_TOKEN" in answer.fault
        (answer,) = await asyncio.to_thread(scrape.workers, Settings(http_port=port, http_token=TOKEN))
        assert answer.values
