"""``expunge train``: make a shipped model again, from its recipe."""

from pathlib import Path
from typing import Annotated

import typer

from expunge.benchmarks import shipped
from expunge.changes.weights import digest_of, stored_tensors
from expunge.cli.output import JsonPath, console, table, writable, write_json
from expunge.errors import ExpungeError
from expunge.run import Run
from expunge.storage import write_tensors


def train(
    model: Annotated[str, typer.Argument(help=f"One of {', '.join(shipped.MODELS)}.")],
    out: Annotated[Path, typer.Option(help="Where the weights go (safetensors).")],
    seed: Annotated[
        int | None, typer.Option(min=0, max=2**63 - 1, help="Another seed than the shipped one.")
    ] = None,
    json: JsonPath = None,
) -> None:
    """Train a shipped model from its recipe, and measure it."""
    if model not in shipped.MODELS:
        raise ExpungeError(
            f"There is no model {model!r} to train; there are {', '.join(shipped.MODELS)}."
        )
    if out.exists():
        raise ExpungeError(f"{out} exists; name another file, or remove it.")
    writable(out, "The file of --out,")
    work = shipped.MODELS[model]()
    run = Run(console=console)
    recipe = work.recipe if seed is None else work.recipe.with_seed(seed)
    with run.meter.measured():
        trained = recipe.make(work.data, run).model
    scores = work.score(trained, run)
    rows = [
        [name, f"{s['value']:.3f}", f"{s['low']:.3f}-{s['high']:.3f}"] for name, s in scores.items()
    ]
    console.print(table(model, ["accuracy", "", "95 %, over subjects"], rows))
    console.print(f"{run.meter.seconds:.0f} s, {run.meter.peak_bytes / 2**20:.0f} MiB at most")
    write_tensors(out, stored_tensors(trained), {"digest": digest_of(trained)})
    console.print(f"Written to {out}", soft_wrap=True)
    write_json(json, {"scores": scores, "seconds": run.meter.seconds})
