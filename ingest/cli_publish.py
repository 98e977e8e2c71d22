"""Commands that publish: `demo`, `simulate` and `replay`."""

from pathlib import Path
from typing import Annotated

import typer

from ingest.settings import SettingsError, load
from ingest.terminal import CommandError, Config, err, exit_codes, out

Rate = Annotated[float, typer.Option("--rate", min=0, help="Messages a second; 0 is as fast as possible.")]
Seconds = Annotated[float | None, typer.Option("--seconds", min=0, help="Stop after this long.")]


def demo(
    mqtt_url: Annotated[str | None, typer.Option(help="A real broker, instead of the embedded one.")] = None,
    database_url: Annotated[
        str | None, typer.Option(help="A real PostgreSQL, instead of the embedded one.")
    ] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Where the data is kept and found again.")] = None,
    scenario: Annotated[str, typer.Option(help="What is played: a TOML file, or the name of one.")] = "demo",
    rate: Annotated[
        float | None, typer.Option("--rate", min=0, help="Messages a second at most; 0: no limit.")
    ] = None,
    seconds: Seconds = None,
    config: Config = None,
) -> None:
    """Everything on this machine: broker, PostgreSQL, migrations, a simulated province, a worker, the observer.

    Needs pip packages alone. Ctrl-C stops it all; the next start finds its data again. The embedded
    PostgreSQL has no TimescaleDB, the embedded broker keeps nothing on disk.
    """
    from ingest.demo import DemoError, run_demo

    with exit_codes():
        given = {"data_dir": data_dir, "mqtt_url": mqtt_url, "database_url": database_url}
        settings = load(config, **{name: value for name, value in given.items() if value})
        try:
            run_demo(
                settings,
                mqtt_url=mqtt_url,
                database_url=database_url,
                scenario=scenario,
                messages_per_second=rate,
                seconds=seconds,
            )
        except DemoError as error:
            raise CommandError(str(error)) from None


def simulate(
    scenario: Annotated[
        str | None,
        typer.Option(help="TOML file, or the name of one that comes along: demo, province, parking_qingdao."),
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option("--rate", min=0, help="Messages a second at most; 0: no limit. 50 without a scenario."),
    ] = None,
    seconds: Seconds = None,
    gateways: Annotated[int | None, typer.Option(min=1, help="Of a fleet without a scenario.")] = None,
    terminals: Annotated[int | None, typer.Option(min=1, help="Of a fleet without a scenario.")] = None,
    factor: Annotated[
        float | None, typer.Option(min=0.0001, max=100, help="How many times a scenario's size.")
    ] = None,
    time_scale: Annotated[
        float | None, typer.Option(min=0.0001, help="How many times faster a scenario's devices report.")
    ] = None,
    readings: Annotated[int | None, typer.Option(min=1, help="Readings in a message.")] = None,
    bad_share: Annotated[float | None, typer.Option(min=0, max=1, help="Share of spoilt messages.")] = None,
    duplicate_share: Annotated[
        float | None, typer.Option(min=0, max=1, help="Share of messages sent twice.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="The same seed publishes the same fleet.")] = None,
    registry: Annotated[
        Path | None, typer.Option(help="Write the fleet as CSV for ganzhi terminals import, and end.")
    ] = None,
    gateway_registry: Annotated[
        Path | None, typer.Option(help="Write its gateways as CSV for ganzhi gateways import, and end.")
    ] = None,
    run: Annotated[bool, typer.Option("--run", help="Publish after the registers are written.")] = False,
    config: Config = None,
) -> None:
    """A fleet that publishes: 100 gateways and 20,000 terminals over the 16 cities, or what a scenario says."""
    from ingest import simulate as fleet

    with exit_codes():
        chosen = fleet.load_scenario(
            scenario, messages_per_second=rate, seconds=seconds, gateways=gateways, terminals=terminals,
            readings=readings, bad_share=bad_share, duplicate_share=duplicate_share, seed=seed, factor=factor,
            time_scale=time_scale,
        )  # fmt: skip
        if registry or gateway_registry:
            made = fleet.gateways_of(chosen)
            for file, write, what in (
                (registry, fleet.write_registry, "terminals"),
                (gateway_registry, fleet.write_gateways, "gateways"),
            ):
                if file:
                    err.print(f"{write(file, made):,} {what} in {file}", highlight=False)
            if not run:
                return
        fleet.simulate(load(config), chosen, console=out)


def replay(
    file: Annotated[
        Path | None, typer.Argument(help="CSV with a header, time,value; .gz too. Or a .toml of series.")
    ] = None,
    series: Annotated[
        list[str] | None,
        typer.Option(help="file=...,terminal=...,metric=...,unit=...,gateway=...,division=...; repeatable."),
    ] = None,
    terminal: Annotated[str | None, typer.Option(help="Code of the terminal that FILE is of.")] = None,
    metric: Annotated[str | None, typer.Option(help="Metric of FILE.")] = None,
    unit: Annotated[str, typer.Option(help="Unit of FILE; none: the catalogue's.")] = "",
    gateway: Annotated[str, typer.Option(help="Gateway to publish as.")] = "replay",
    division: Annotated[int, typer.Option(help="Division of the topic.")] = 370_000,
    pack: Annotated[int, typer.Option(min=1, help="Readings in a message.")] = 50,
    shift_to_now: Annotated[bool, typer.Option("--shift-to-now", help="End in the hour before now.")] = False,
    rate: Rate = 0,
    config: Config = None,
) -> None:
    """Publish recorded readings as they were, or shifted to now; ends when the broker has acknowledged all."""
    from ingest import replay as recordings

    with exit_codes():
        settings = load(config)
        chosen = [recordings.parse_series(text) for text in series or []]
        if file and file.suffix == ".toml":
            chosen += recordings.load_series(file)
        elif file:
            given = {
                "terminal": terminal,
                "metric": metric,
                "unit": unit,
                "gateway": gateway,
                "division": division,
            }
            pairs = ",".join(f"{name}={value}" for name, value in given.items() if value)
            chosen.append(recordings.parse_series(f"file={file},{pairs}"))
        if not chosen:
            raise SettingsError("name a FILE with --terminal and --metric, or a --series")
        recordings.replay(
            settings, chosen, pack=pack, shift_to_now=shift_to_now, messages_per_second=rate, console=out
        )
