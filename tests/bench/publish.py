"""A publisher for benchmarks: packets made beforehand, one socket, a window of unacknowledged ones."""

import json
import socket
from collections.abc import Iterator, Sequence
from itertools import groupby, islice

import mqtt5
import numpy as np
import numpy.typing as npt

WINDOW = 2_000
GATEWAYS = 100
"""Terminals are spread over them; each comes through one only, and brings its whole round in one go."""


def readings(count: int, terminals: int, begin: float) -> tuple[list[int], list[float], list[float]]:
    """Terminals in random order within their gateway, every one once a round; times of one minute.

    Values are normal, with 2 decimals.

    What the broker, the worker and the raw COPY are given alike: an orderly sequence would compress twice as fast.
    """
    random = np.random.default_rng(1)
    rounds = [by_gateway(random.permutation(terminals)) for _ in range(0, count, terminals)]
    values = np.round(random.normal(20, 5, count), 2)
    times = np.round(begin + random.uniform(0, 60, count), 3)
    return np.concatenate(rounds)[:count].tolist(), values.tolist(), times.tolist()


def by_gateway(terminals: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The same terminals, those of one gateway together."""
    return terminals[np.argsort(terminals % GATEWAYS, kind="stable")]


def packs(
    size: int, columns: tuple[list[int], list[float], list[float]], divisions: Sequence[int] = (370102,)
) -> Iterator[tuple[str, bytes]]:
    """Topics and SenML packs of `size` readings of one metric, full names as a gateway for many terminals sends.

    Terminals of a gateway stand together: where the next one begins, so does a pack. Gateways are dealt out to the
    divisions.
    """
    for gateway, rows in groupby(zip(*columns, strict=True), lambda row: row[0] % GATEWAYS):
        while some := list(islice(rows, size)):
            records = [{"n": f"imei:8688{terminal:011d}/temperature", "u": "Cel", "v": value, "t": time}
                       for terminal, value, time in some]  # fmt: skip
            yield (
                f"ganzhi/v1/{divisions[gateway % len(divisions)]}/gw{gateway}/telemetry",
                json.dumps(records).encode(),
            )


def publish(host: str, port: int, messages: list[tuple[str, bytes]]) -> None:
    """Publish at QoS 1 and wait until the broker has acknowledged every one with success."""
    with socket.create_connection((host, port)) as sock:
        sock.sendall(
            mqtt5.ConnectPacket(client_id="bench-publisher", clean_start=True, keep_alive=600).write()
        )
        sock.recv(1024)
        acknowledgements = _Acknowledgements(sock)
        for sent, (topic, payload) in enumerate(messages):
            if sent - acknowledgements.count >= WINDOW:
                acknowledgements.wait_for(sent - WINDOW // 2)
            sock.sendall(mqtt5.PublishPacket(topic, payload, qos=mqtt5.QoS.AT_LEAST_ONCE,
                                             packet_id=sent % 65_535 + 1).write())  # fmt: skip
        acknowledgements.wait_for(len(messages))


class _Acknowledgements:
    def __init__(self, sock: socket.socket) -> None:
        self.count = 0
        self._sock = sock
        self._rest = b""

    def wait_for(self, count: int) -> None:
        while self.count < count:
            data = self._rest + self._sock.recv(65_536)
            at = 0
            while at + 2 <= len(data) and at + 2 + data[at + 1] <= len(data):
                if data[at] == 0x40 and data[at + 1] > 2 and data[at + 4] != 0:
                    raise RuntimeError(f"the broker refused a message: reason {data[at + 4]:#x}")
                at += 2 + data[at + 1]
                self.count += 1
            self._rest = data[at:]
