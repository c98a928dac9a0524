"""``expunge bench service``: many clients of the service, and processes killed in the middle."""

from pathlib import Path
from typing import Annotated

import typer

from expunge.benchmarks.service import protocol
from expunge.cli.output import JsonPath, console, show, write_json


def service(
    clients: Annotated[int, typer.Option(min=1, max=500, help="Clients at once.")] = 50,
    calls: Annotated[
        int, typer.Option(min=0, help="Calls of all clients together; 0 leaves the load out.")
    ] = 2_000,
    kills: Annotated[
        int, typer.Option(min=0, help="Kills of server and worker by turns; 0 leaves them out.")
    ] = 6,
    seed: Annotated[int, typer.Option(help="Of what is asked.")] = 0,
    ledger: Annotated[
        str | None,
        typer.Option(metavar="URL", help="An empty PostgreSQL database; SQLite by default."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Empty folder that keeps the ledgers and the log.")
    ] = None,
    json: JsonPath = None,
) -> None:
    """50 clients on this machine, 2,000 calls; then SIGKILL in the middle, and what is left.

    Exit status 1 where a call was wrong or a check found something.
    """
    result = protocol.Protocol(clients, calls, kills, seed, ledger, out).conduct(_told)
    show(protocol.tables(result), protocol.sentences(result))
    write_json(json, result)
    if not protocol.holds(result):
        raise typer.Exit(1)


def _told(sentence: str) -> None:
    console.print(sentence, soft_wrap=True)
