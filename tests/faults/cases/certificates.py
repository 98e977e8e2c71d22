"""Certificates of broker and worker, and the authority behind them, are replaced while the worker runs."""

from pathlib import Path

from tests.brokers import free_port
from tests.certificates import Authority, end_of, key_of
from tests.faults.case import case
from tests.faults.stand import Stand
from tests.worker import Worker

HOST = "localhost"
LOOK_SECONDS = 120
"""A worker looks at its files every minute."""


@case(120)
def certificates_renewed(stand: Stand, size: int) -> None:
    """Both sides trust a second authority too, get its certificates, trust the first no more; the worker runs on."""
    del size
    folder = stand.folder / "certificates"
    folder.mkdir()
    first, second = (Authority(folder, name) for name in ("first", "second"))
    trusted = folder / "trusted.pem"
    _trust(trusted, first)
    server, client = _sign(first, days=100)
    port = free_port()
    stand.broker.add(f"listener {port} 127.0.0.1\ncafile {trusted}\ncertfile {server}\nkeyfile {key_of(server)}\n"
                     "require_certificate true\n")  # fmt: skip
    worker = stand.worker(mqtt_url=f"mqtts://{HOST}:{stand.proxy(port).port}", mqtt_ca=trusted, mqtt_cert=client,
                          mqtt_key=key_of(client))  # fmt: skip
    stand.publish()
    stand.warm_up()
    _trust(trusted, first, second)
    _restart(stand)
    _sign(second, days=150)
    stand.broker.reload()
    stand.wait(lambda: _renewals(worker), "taking the new files up", LOOK_SECONDS)
    worker.wait_ready()
    stand.healed()
    _trust(trusted, second)
    _restart(stand)
    shown = worker.metrics()("certificate_expiry_timestamp_seconds", "broker")
    if shown != end_of(server):
        stand.faults.append("the broker still shows its first certificate")


def _restart(stand: Stand) -> None:
    """Mosquitto 2.0 reads certificates anew when it is told to (SIGHUP), and authorities when it starts."""
    stand.broker.stop()
    stand.broker.start()
    stand.healed()


def _trust(file: Path, *authorities: Authority) -> None:
    new = file.with_suffix(".new")
    new.write_bytes(b"".join(authority.file.read_bytes() for authority in authorities))
    new.rename(file)


def _sign(authority: Authority, days: int) -> tuple[Path, Path]:
    """The broker's and the worker's certificate."""
    return authority.sign(HOST, file="broker", hosts=(HOST,), days=days), authority.sign("ganzhi", days=days)


def _renewals(worker: Worker) -> int:
    return sum(line["event"] == "certificates_renewed" for line in worker.log)
