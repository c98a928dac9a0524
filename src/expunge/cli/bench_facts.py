"""``expunge bench facts``: language models forget facts about invented people."""

from pathlib import Path
from typing import Annotated

import typer

from expunge.benchmarks.facts import picture, protocol, tables
from expunge.cli.bench_options import CORES, Draws, Methods, Processes
from expunge.cli.output import JsonPath, show, told, writable_folder, write_json, write_picture


def facts(
    out: Annotated[
        Path, typer.Option(help="Folder of models, trials and results; a stopped run goes on.")
    ] = Path("bench-facts"),
    full: Annotated[
        bool,
        typer.Option("--full", help="Three draws and seeds, every method, tuning, 20 requests."),
    ] = False,
    methods: Methods = None,
    draws: Draws = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="Seeds of the bases, from 0.")] = None,
    trials: Annotated[
        int | None, typer.Option(min=0, help="Trials of a method on people of another draw.")
    ] = None,
    streams: Annotated[
        list[int] | None, typer.Option("--stream", help="Number of requests; repeatable.")
    ] = None,
    processes: Processes = CORES,
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
    ).conduct(told)
    verdicts = tables.verdicts(result)
    show(tables.tables(result), (tables.CAPTION, *verdicts))
    write_picture(out / "facts.png", picture.png(result))
    write_json(json, result | {"verdicts": verdicts})
