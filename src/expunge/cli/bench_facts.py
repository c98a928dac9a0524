"""``expunge bench facts``: language models forget facts about invented people."""

import os
from pathlib import Path
from typing import Annotated

import typer

from expunge.benchmarks.facts import picture, protocol, tables
from expunge.cli.output import JsonPath, console, table, writable_folder, write_json
from expunge.storage import write_bytes


def facts(
    out: Annotated[
        Path, typer.Option(help="Folder of models, trials and results; a stopped run goes on.")
    ] = Path("bench-facts"),
    full: Annotated[
        bool,
        typer.Option("--full", help="Three draws and seeds, every method, tuning, 20 requests."),
    ] = False,
    methods: Annotated[
        list[str] | None, typer.Option("--method", help="Registered name; repeatable.")
    ] = None,
    draws: Annotated[int | None, typer.Option(min=1, help="Draws of people, from 0.")] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="Seeds of the bases, from 0.")] = None,
    trials: Annotated[
        int | None, typer.Option(min=0, help="Trials of a method on people of another draw.")
    ] = None,
    streams: Annotated[
        list[int] | None, typer.Option("--stream", help="Number of requests; repeatable.")
    ] = None,
    processes: Annotated[int, typer.Option(min=1, help="Jobs that run at once.")] = (
        os.cpu_count() or 1
    ),
    json: JsonPath = None,
) -> None:
    """Facts about invented people: forget ten at once, or two after two, and keep the rest."""
    writable_folder(out, "The folder of --out,")
    chosen = protocol.FULL if full else protocol.QUICK
    given_seeds = seeds or chosen.seeds
    result = protocol.Protocol(
        out,
        tuple(methods) if methods else () if full else protocol.quick_methods(),
        draws or chosen.draws,
        given_seeds,
        max(given_seeds, chosen.oracles),
        tuple(streams) if streams else chosen.streams,
        chosen.trials if trials is None else trials,
        processes,
    ).conduct(_told)
    for title, columns, rows in tables.tables(result):
        console.print(table(title, columns, rows))
    console.print(tables.CAPTION, soft_wrap=True)
    for line in tables.verdicts(result):
        console.print(line, soft_wrap=True, markup=False)
    write_bytes(out / "facts.png", picture.png(result))
    console.print(f"Picture: {out / 'facts.png'}", soft_wrap=True)
    write_json(json, result | {"verdicts": tables.verdicts(result)})


def _told(title: str, stored: bool) -> None:
    console.print(f"{title}{', stored before' if stored else ''}", soft_wrap=True)
