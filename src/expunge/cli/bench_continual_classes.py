"""``expunge bench continual-classes``: classes leave a convolutional network one after another."""

from pathlib import Path
from typing import Annotated

import typer

from expunge import registry
from expunge.benchmarks import continual_classes
from expunge.benchmarks.continual_vlm.kinds import PRESETS
from expunge.benchmarks.continual_vlm.world import HALVES
from expunge.cli.bench_continual_vlm import known_kinds, print_rows
from expunge.cli.bench_options import CORES, Processes
from expunge.cli.output import JsonPath, told, writable_folder

FEW = ("negation", "confined")
"""The kinds of the quick form."""

MAIN = ("cata", "sum", "mean")
"""Its rules."""


def classes_in_a_row(
    out: Annotated[Path, typer.Option(help="Folder of results; a stopped run goes on.")] = Path(
        "bench-continual-classes"
    ),
    full: Annotated[
        bool, typer.Option("--full", help="Both halves, six bases, every kind by every rule.")
    ] = False,
    requests: Annotated[
        list[int] | None, typer.Option("--requests", min=1, help="Number T; repeatable.")
    ] = None,
    halves: Annotated[
        list[str] | None,
        typer.Option("--half", help="Of the classes: development, reporting; repeatable."),
    ] = None,
    seeds: Annotated[
        list[int] | None, typer.Option("--seeds", min=0, help="Seed of a base; repeatable.")
    ] = None,
    kinds: Annotated[
        list[str] | None, typer.Option("--kind", help="Kind of vectors; repeatable.")
    ] = None,
    rules: Annotated[
        list[str] | None, typer.Option("--rule", help="Registered aggregation; repeatable.")
    ] = None,
    processes: Processes = CORES,
    json: JsonPath = None,
) -> None:
    """The continual benchmark on a second family: a classifier of digits and clothes."""
    writable_folder(out, "The folder of --out,")
    known_kinds(kinds or ())
    for rule in rules or ():
        registry.load("aggregations", rule)
    every = registry.names("aggregations") if full else MAIN
    result = continual_classes.conduct(
        out,
        tuple(halves or (HALVES if full else ("reporting",))),
        tuple(seeds or (() if full or halves else (3,))),
        tuple(requests or (continual_classes.REQUESTS,)),
        tuple(kinds or (PRESETS if full else FEW)),
        tuple(rules or every),
        processes,
        told,
    )
    print_rows(result, json)
