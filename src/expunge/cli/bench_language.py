"""``expunge bench tofu``, ``muse`` and ``wmdp``: what language models still know."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from expunge.benchmarks.muse import Muse
from expunge.benchmarks.muse import table as muse_table
from expunge.benchmarks.tofu import folders, picture, protocol, tables
from expunge.benchmarks.wmdp import Wmdp
from expunge.benchmarks.wmdp import table as wmdp_table
from expunge.cli.bench_options import CORES, Processes
from expunge.cli.output import JsonPath, show, told, writable_folder, write_json, write_picture
from expunge.errors import ExpungeError
from expunge.run import Run
from expunge.signals.text_membership import RETRAINED_AUC

Data = Annotated[Path | None, typer.Option("--data", help="Folder of the published set.")]
Model = Annotated[Path | None, typer.Option("--model", help="Folder of the model to ask.")]
Oracle = Annotated[
    Path | None, typer.Option("--oracle", help="Folder of a model trained without the forget set.")
]
Device = Annotated[str, typer.Option(help="Where models are asked: cpu, cuda ...")]


def tofu(
    out: Annotated[
        Path, typer.Option(help="Folder of models and results; a stopped run goes on.")
    ] = Path("bench-tofu"),
    full: Annotated[
        bool,
        typer.Option("--full", help="200 authors, three requests, every method, rates chosen."),
    ] = False,
    tune: Annotated[
        bool, typer.Option("--tune", help="Choose the learning rates of the methods anew.")
    ] = False,
    methods: Annotated[
        list[str] | None,
        typer.Option("--method", help="Registered name, its rate chosen; repeatable."),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Passes over the forget set; 10.")
    ] = None,
    processes: Processes = CORES,
    data: Data = None,
    model: Model = None,
    oracle: Oracle = None,
    forget: Annotated[
        str, typer.Option(help="With --data: forget01, forget05 or forget10.")
    ] = "forget10",
    separator: Annotated[
        str, typer.Option(help="With --data: what stands between question and answer.")
    ] = "\n",
    chat: Annotated[
        bool, typer.Option("--chat", help="With --data: ask through the chat template.")
    ] = False,
    device: Device = "cpu",
    json: JsonPath = None,
) -> None:
    """Mini-TOFU, trained on the spot; with --data and --model, TOFU itself."""
    if data is not None or model is not None:
        asked = folders.Folders(*_both(data, model), oracle, forget, separator, chat)
        _show(folders.table, asked.conduct(Run(device=device)), json)
        return
    writable_folder(out, "The folder of --out,")
    form = protocol.FULL if full else protocol.QUICK
    if epochs is not None:
        form = replace(form, epochs=epochs, looks=min(form.looks, epochs))
    chosen = tuple(methods or (protocol.QUICK_RATES if tune and not full else ()))
    rates = {} if full or tune or methods else dict(protocol.QUICK_RATES)
    result = protocol.Protocol(out, form, rates, chosen, processes=processes).conduct(told)
    show(tables.tables(result), tables.sentences(result))
    write_picture(out / "tofu.png", picture.png(result))
    write_json(json, result)


def muse(
    data: Data = None,
    model: Model = None,
    oracle: Oracle = None,
    corpus: Annotated[
        str | None,
        typer.Option(help="news or books: whose published retrained AUC PrivLeak takes."),
    ] = None,
    device: Device = "cpu",
    json: JsonPath = None,
) -> None:
    """MUSE on your disk: VerbMem, KnowMem and PrivLeak of a model."""
    if corpus is not None and corpus not in RETRAINED_AUC:
        raise ExpungeError(
            f"There is no corpus {corpus!r}; {' or '.join(RETRAINED_AUC)} is expected."
        )
    asked = Muse(*_both(data, model), oracle, corpus)
    _show(muse_table, asked.conduct(Run(device=device)), json)


def wmdp(
    data: Data = None,
    model: Model = None,
    more: Annotated[
        list[str] | None,
        typer.Option("--also", help="Another folder of questions there, as of MMLU; repeatable."),
    ] = None,
    device: Device = "cpu",
    json: JsonPath = None,
) -> None:
    """WMDP on your disk: accuracy by the most likely option letter."""
    asked = Wmdp(*_both(data, model), tuple(more or ()))
    _show(wmdp_table, asked.conduct(Run(device=device)), json)


def _both(data: Path | None, model: Path | None) -> tuple[Path, Path]:
    if data is None or model is None:
        raise ExpungeError(
            f"--data {data or 'is missing'} and --model {model or 'is missing'} were given; the "
            "folders of the published set and of the model are expected together."
        )
    for folder, what in ((data, "--data"), (model, "--model")):
        if not folder.is_dir():
            raise ExpungeError(f"{what} {folder} is no folder; give one that is there.")
    return data, model


def _show(form: Any, result: Any, json: Path | None) -> None:
    show([form(result)])
    write_json(json, result)
