"""``expunge bench continual-vlm``: groups of drawings leave a dual encoder one after another."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from expunge import registry
from expunge.benchmarks import demo
from expunge.benchmarks.continual_vlm import own, picture, protocol, tables
from expunge.benchmarks.continual_vlm.kinds import PRESETS
from expunge.cli.output import JsonPath, console, table, writable_folder, write_json
from expunge.errors import ExpungeError
from expunge.run_file.reading import read
from expunge.storage import write_bytes


def continual_vlm(
    out: Annotated[
        Path, typer.Option(help="Folder of models, vectors and results; a stopped run goes on.")
    ] = Path("bench-continual-vlm"),
    full: Annotated[
        bool,
        typer.Option(
            "--full",
            help="Three orders; every row for 5 requests, main ones to 20. Without --half or "
            "--group: the reporting half, also at strengths of the development half.",
        ),
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
        list[int] | None,
        typer.Option("--seeds", min=0, help="Seed of a reported base; repeatable."),
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
    run_file: Annotated[
        Path | None,
        typer.Option("--run-file", help="Ask a model of your own, such as a CLIP folder, instead."),
    ] = None,
    moving: Annotated[
        list[str] | None,
        typer.Option(
            "--move",
            help="With --run-file: parameters that may move, by a part of their name; of a dual "
            "encoder the image tower by default; repeatable.",
        ),
    ] = None,
    processes: Annotated[int, typer.Option(min=1, help="Jobs that run at once.")] = (
        os.cpu_count() or 1
    ),
    json: JsonPath = None,
) -> None:
    """Requests in a row: rules and vectors beside the oracle, at equal retained accuracy."""
    writable_folder(out, "The folder of --out,")
    if run_file is not None:
        given = (full, requests, orders, halves, seeds, groups)
        print_rows(_own(run_file, moving or (), kinds, rules, any(given)), json)
        return
    if moving:
        raise ExpungeError("`--move` was given without `--run-file`, whose model it is for.")
    whole = full and not halves and not groups
    drawn = tuple(halves or (("reporting",) if whole else ()))
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
        frozen_on="development" if whole else None,
    ).conduct(_told)
    print_rows(result, json)
    write_bytes(out / "continual-vlm.png", picture.png(result))
    console.print(f"Picture: {out / 'continual-vlm.png'}", soft_wrap=True)


def _own(
    path: Path,
    moving: Sequence[str],
    kinds: Sequence[str] | None,
    rules: Sequence[str] | None,
    drawn: bool,
) -> dict[str, Any]:
    """The requests of a run file, asked of its model."""
    if drawn:
        raise ExpungeError(
            "`--run-file` was given beside options of the drawn groups; its requests and their "
            "order stand in the file. Leave the others out."
        )
    known_kinds(kinds or ())
    every = rules or registry.names("aggregations")
    stream = own.of_run_file(read(path), moving)
    where = {"half": "own", "seed": stream.run.seed, "count": len(stream.requests)}
    methods = {kind: PRESETS[kind] for kind in kinds or PRESETS}
    return stream.conduct(where, methods, tuple(every))


def known_kinds(kinds: Sequence[str]) -> None:
    """Refuse kinds of vectors that have no preset.

    Raises:
        ExpungeError: so has one.
    """
    for kind in kinds:
        if kind not in PRESETS:
            raise ExpungeError(
                f"There is no kind of vectors {kind!r} at a preset; known are "
                f"{', '.join(PRESETS)}. Name one of these."
            )


def print_rows(result: dict[str, Any], json: Path | None) -> None:
    """Tables, the questions answered, seconds; and the file of ``--json``."""
    for title, columns, rows in tables.tables(result):
        console.print(table(title, columns, rows))
    console.print(tables.caption(result), soft_wrap=True)
    for line in tables.verdicts(result):
        console.print(line, soft_wrap=True, markup=False)
    console.print(f"{result['seconds']:.0f} seconds", soft_wrap=True)
    write_json(json, result | {"verdicts": tables.verdicts(result)})


def _told(title: str, stored: bool) -> None:
    console.print(f"{title}{', stored before' if stored else ''}", soft_wrap=True)
