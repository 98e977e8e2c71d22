"""The command `ganzhi`: what each command takes. The work is done elsewhere."""

import time
from datetime import timedelta
from typing import Annotated

import typer

from ingest import (
    cli_data,
    cli_export,
    cli_gaps,
    cli_gateways,
    cli_plan,
    cli_publish,
    cli_report,
    cli_state,
    cli_terminals,
)
from ingest.cli_export import CityReader, PasswordDir, Roles
from ingest.logs import configure_logs
from ingest.settings import Settings, SettingsError, load
from ingest.terminal import CommandError, Config, exit_codes, out, run_service, shown

app = typer.Typer(name="ganzhi", help="感知 Ganzhi: takes in what the sensors of a province say.",
                  no_args_is_help=True, rich_markup_mode="markdown", pretty_exceptions_enable=False)  # fmt: skip


@app.command(epilog="Example: GANZHI_DATABASE_URL=postgresql://localhost/ganzhi ganzhi migrate")
def migrate(
    roles: Roles = False,
    password_dir: PasswordDir = None,
    city_reader: CityReader = None,
    maintain: Annotated[
        bool, typer.Option("--maintain", help="Then maintain: retention, duplicates, recompression, rollups.")
    ] = False,
    every: Annotated[
        float | None,
        typer.Option(min=0.01, help="Maintain again and again, this many hours apart; for a service."),
    ] = None,
    config: Config = None,
) -> None:
    """Bring the database to this version; picks the storage by what the server offers."""
    from ingest import maintain as upkeep
    from ingest import migrate as steps
    from ingest import roles as rights
    from ingest.connection import connect

    with exit_codes():
        settings = load(config)
        with connect(
            settings.database_url.get_secret_value(), application="ganzhi migrate", patient=True
        ) as conn:
            done = steps.migrate(conn)
            if done.storage == "timescale":
                upkeep.set_chunk_hours(conn, settings)
            made = (
                rights.make(conn, password_dir, city_reader or ())
                if roles or city_reader
                else rights.renew(conn)
            )
            server = conn.info.server_version // 10_000
        for line in [*(f"applied {step}" for step in done.applied), *made]:
            out.print(line, highlight=False, markup=False)
        out.print(
            f"the database is at version {steps.newest()}, storage {done.storage} on PostgreSQL {server}"
        )
        if maintain or every:
            _maintain(settings, every)


def _maintain(settings: Settings, every: float | None) -> None:
    """Once, or every so many hours until a signal ends it: each step is whole, whenever that is."""
    from ingest import maintain as upkeep
    from ingest.connection import connect

    while True:
        url = settings.database_url.get_secret_value()
        with connect(url, application="ganzhi maintain") as conn:
            rest = upkeep.REST if every else timedelta()
            if (
                not upkeep.run(
                    conn, settings, lambda line: out.print(line, highlight=False, markup=False), rest
                )
                and not every
            ):
                raise CommandError("maintenance is running already: wait for it, or end the other one")
        if not every:
            return
        out.print(f"maintained at {shown(time.time())}", highlight=False)
        time.sleep(every * 3600)


@app.command(epilog="Example: ganzhi ingest --workers 2")
def ingest(
    workers: Annotated[int, typer.Option(min=1, max=64, help="Processes; several need a share group.")] = 1,
    worker: Annotated[
        int, typer.Option(min=0, help="Number of a single worker: its client id and port.")
    ] = 0,
    drain_client: Annotated[
        str | None,
        typer.Option(help="Empty and end the session of a worker that won't come back, such as ganzhi-3."),
    ] = None,
    config: Config = None,
) -> None:
    """The service: from the broker to the database, acknowledged when committed. SIGTERM drains it."""
    from ingest import service
    from ingest import workers as processes

    configure_logs()
    with exit_codes():
        settings = load(config)
        if drain_client is not None:
            if workers > 1 or not drain_client:
                raise SettingsError(
                    "--drain-client takes the name of one client, such as ganzhi-3, and no --workers"
                )
            messages = run_service(service.drain(settings, drain_client))
            out.print(f"{drain_client}: {messages:,} messages drained, its session is ended")
        elif workers > 1:
            raise typer.Exit(processes.run(settings, workers, config))
        else:
            run_service(service.run(settings, worker))


app.command(epilog="Example: ganzhi demo --data-dir /tmp/ganzhi")(cli_publish.demo)
app.command(epilog="Example: ganzhi simulate --rate 1000 --seconds 60")(cli_publish.simulate)
app.command(epilog="Example: ganzhi replay meter.csv.gz --terminal imei:860000000000009 --metric electric_energy "
                   "--unit kWh --gateway gw1 --division 370102")(cli_publish.replay)  # fmt: skip
app.command(epilog="Example: ganzhi decode ganzhi/v1/370102/gw1/telemetry "
                   "'[{\"n\":\"imei:860000000000009/temp\",\"v\":21.5}]'")(cli_data.decode)  # fmt: skip
app.command(epilog="Example: GANZHI_MQTT_URL=mqtt://broker:1883 ganzhi check")(cli_state.check)
app.command(epilog="Example: ganzhi status --watch")(cli_state.status)
app.command(epilog="Example: GANZHI_DATABASE_URL=postgresql://localhost/ganzhi ganzhi observe")(
    cli_state.observe
)
app.command(epilog="Example: ganzhi export --division 370100 --domain municipal --from 2026-11-01 --to 2026-12-01 "
                   "--what hourly --out november.csv")(cli_export.export)  # fmt: skip
app.command(epilog="Example: ganzhi report --month 2026-10 --output october.html")(cli_report.report)
app.add_typer(cli_data.rejections, name="rejections")
app.add_typer(cli_terminals.terminals, name="terminals")
app.add_typer(cli_gateways.gateways, name="gateways")
app.add_typer(cli_plan.plan, name="plan")
app.add_typer(cli_gaps.gaps, name="gaps")
app.add_typer(cli_gaps.maintenance, name="maintenance")


def main() -> None:
    """Entry point of the command."""
    app()


if __name__ == "__main__":
    main()
