"""``expunge bench continual-vlm``: groups of drawings leave a dual encoder one after another."""

import os
from pathlib import Path
from typing import Annotated

import typer

from expunge.benchmarks import demo
from expunge.benchmarks.continual_vlm import picture, protocol, tables, world
from expunge.cli.output import JsonPath, console, table, writable_folder, write_json
from expunge.storage import write_bytes


def continual_vlm(
    out: Annotated[
        Path, typer.Option(help="Folder of models, vectors and results; a stopped run goes on.")
    ] = Path("bench-continual-vlm"),
    full: Annotated[
        bool,
        typer.Option("--full", help="Six bases, three orders; every row for 5, main ones to 20."),
    ] = False,
    requests: Annotated[
        list[int] | None, typer.Option("--requests", min=1, help="Number T; repeatable.")
    ] = None,
    orders: Annotated[int | None, typer.Option(min=1, help="Orders of each set.")] = None,
    halves: Annotated[
        list[str] | None,
        typer.Option("--half", help="Draw groups from it: development, reporting; repeatable."),
    ] = None,
    seeds: Annotated[
        list[int] | None, typer.Option("--seeds", min=0, help="Seed of a base; repeatable.")
    ] = None,
    groups: Annotated[
        list[str] | None, typer.Option("--group", help="A group to ask for by name; repeatable.")
    ] = None,
    kinds: Annotated[
        list[str] | None, typer.Option("--kind", help="Kind of vectors, or sequential; repeatable.")
    ] = None,
    rules: Annotated[
        list[str] | None, typer.Option("--rule", help="Registered aggregation; repeatable.")
    ] = None,
    processes: Annotated[int, typer.Option(min=1, help="Jobs that run at once.")] = (
        os.cpu_count() or 1
    ),
    json: JsonPath = None,
) -> None:
    """Requests in a row: rules and vectors beside the oracle, at equal retained accuracy."""
    writable_folder(out, "The folder of --out,")
    drawn = tuple(halves or (world.HALVES if full and not groups else ()))
    named = tuple(groups or (() if drawn else demo.GROUPS))
    counts = tuple(requests or ((5, 10, 20) if full and drawn else (5,)))
    if groups and not requests:
        counts = (len(groups),)
    result = protocol.Protocol(
        out,
        named,
        drawn,
        tuple(seeds or ()),
        counts,
        orders or (3 if full else 1),
        full,
        tuple(kinds or (protocol.EVERY if full else protocol.QUICK)),
        tuple(rules or ()),
        processes,
    ).conduct(_told)
    for title, columns, rows in tables.tables(result):
        console.print(table(title, columns, rows))
    console.print(tables.CAPTION, soft_wrap=True)
    for line in tables.verdicts(result):
        console.print(line, soft_wrap=True, markup=False)
    write_bytes(out / "continual-vlm.png", picture.png(result))
    console.print(f"Picture: {out / 'continual-vlm.png'}", soft_wrap=True)
    console.print(f"{result['seconds']:.0f} seconds with {processes} processes", soft_wrap=True)
    write_json(json, result | {"verdicts": tables.verdicts(result)})


def _told(title: str, stored: bool) -> None:
    console.print(f"{title}{', stored before' if stored else ''}", soft_wrap=True)
