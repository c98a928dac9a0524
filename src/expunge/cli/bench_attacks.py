"""``expunge bench attacks``: what brings back facts that language models were made to forget."""

from pathlib import Path
from typing import Annotated

import typer

from expunge.benchmarks.attacks import picture, protocol, tables
from expunge.cli.bench_options import CORES, Draws, Methods, Processes
from expunge.cli.output import JsonPath, show, told, writable_folder, write_json, write_picture


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
    methods: Methods = None,
    draws: Draws = None,
    processes: Processes = CORES,
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
    ).conduct(told)
    verdicts = tables.verdicts(result)
    show(tables.tables(result), (tables.CAPTION, *verdicts))
    write_picture(out / "attacks.png", picture.png(result))
    write_json(json, result | {"verdicts": verdicts})
