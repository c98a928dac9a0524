"""``expunge bench attacks``: what brings back facts that language models were made to forget."""

import os
from pathlib import Path
from typing import Annotated

import typer

from expunge.benchmarks.attacks import picture, protocol, tables
from expunge.cli.output import JsonPath, console, table, writable_folder, write_json
from expunge.storage import write_bytes


def attacks(
    out: Annotated[
        Path,
        typer.Option(
            help="Folder of models and results; a stopped run goes on. With that of `expunge "
            "bench facts` its bases and oracles are taken."
        ),
    ] = Path("bench-facts"),
    full: Annotated[
        bool, typer.Option("--full", help="Three draws, every method made for language models.")
    ] = False,
    methods: Annotated[
        list[str] | None, typer.Option("--method", help="Registered name; repeatable.")
    ] = None,
    draws: Annotated[int | None, typer.Option(min=1, help="Draws of people, from 0.")] = None,
    processes: Annotated[int, typer.Option(min=1, help="Jobs that run at once.")] = (
        os.cpu_count() or 1
    ),
    json: JsonPath = None,
) -> None:
    """Prefixes, paraphrases, lens, probe, rounding, relearning: beyond what oracles answer."""
    writable_folder(out, "The folder of --out,")
    form = protocol.FULL if full else protocol.QUICK
    result = protocol.Protocol(
        out,
        tuple(methods) if methods else form.methods,
        draws or form.draws,
        form.oracles,
        processes,
    ).conduct(_told)
    for title, columns, rows in tables.tables(result):
        console.print(table(title, columns, rows))
    console.print(tables.CAPTION, soft_wrap=True)
    for line in tables.verdicts(result):
        console.print(line, soft_wrap=True, markup=False)
    write_bytes(out / "attacks.png", picture.png(result))
    console.print(f"Picture: {out / 'attacks.png'}", soft_wrap=True)
    write_json(json, result | {"verdicts": tables.verdicts(result)})


def _told(title: str, stored: bool) -> None:
    console.print(f"{title}{', stored before' if stored else ''}", soft_wrap=True)
