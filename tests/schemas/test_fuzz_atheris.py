"""Fuzzing that is led by coverage, of the decoders of bytes: Sparkplug and SenML in CBOR. Needs the package `atheris`.

This file is also the program that is run: `python tests/schemas/test_fuzz_atheris.py sparkplug -runs=1000000`.
"""

import subprocess
import sys
from pathlib import Path

import pytest

RUNS = 20_000
"""About two seconds each."""
NOW = 1_763_712_000.0
GOLDEN = Path(__file__).parent.parent / "golden"
SEEDS = {"sparkplug": "sparkplug/*/payload", "cbor": "senml/*/message.cbor"}
TARGETS = tuple(SEEDS)


@pytest.mark.parametrize("target", TARGETS)
def test_no_bytes_raise(target, tmp_path):
    """Whatever bytes coverage leads to, a decoder answers with parts whose columns have one length."""
    pytest.importorskip("atheris", reason="atheris is not installed: fuzzing led by coverage is left out")
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for number, seed in enumerate(GOLDEN.glob(SEEDS[target])):
        (corpus / str(number)).write_bytes(seed.read_bytes())
    options = [f"-runs={RUNS}", "-seed=1", "-max_len=512", f"-artifact_prefix={tmp_path}/", str(corpus)]
    done = subprocess.run(
        [sys.executable, __file__, target, *options], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert f"Done {RUNS} runs" in done.stderr


def main() -> None:
    """Fuzz the decoder that is named first, with libFuzzer's options after it."""
    import atheris

    with atheris.instrument_imports(include=["schemas"]):
        from schemas import sparkplug_message, telemetry
        from schemas.message import Message
        from schemas.sparkplug_births import Birth, Declared, Node

    declared = tuple(Declared(f"m{n}", n, n, None) for n in range(35))
    births = [Birth("g/e", device, 0, 1, alive=True, metrics=declared) for device in ("", "d")]

    def sparkplug(data: bytes) -> None:
        for topic in ("NBIRTH/e", "NDEATH/e", "DDATA/e/d"):
            part = sparkplug_message.read(Message(f"spBv1.0/g/{topic}", data, NOW), Node(births)).part
            assert len(part.names) == len(part.values) == len(part.times) == len(part.indexes)

    def cbor(data: bytes) -> None:
        [part] = telemetry.decode(Message("t", data, NOW, "application/senml+cbor"))
        assert len(part.names) == len(part.values) == len(part.times) == len(part.indexes)

    atheris.Setup([sys.argv[0], *sys.argv[2:]], {"sparkplug": sparkplug, "cbor": cbor}[sys.argv[1]])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
