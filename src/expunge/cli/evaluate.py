"""``expunge evaluate``: measure stored weights on every request and on everything else."""

from pathlib import Path
from typing import Annotated

import typer

from expunge.audit.measure import Panel, measure
from expunge.cli.output import JsonPath, console, table, write_json
from expunge.cli.run_file import read, with_stored_weights


def evaluate(
    run_file: Annotated[Path, typer.Argument(help="YAML run file; docs/run_file.md explains it.")],
    weights: Annotated[
        list[Path] | None,
        typer.Option(help="Weights to measure beside the run file's own; may be repeated."),
    ] = None,
    json: JsonPath = None,
) -> None:
    """Measure models on each request of a run file and on what nobody asked to remove."""
    loaded = read(run_file)
    base, family = loaded.deployment.base, loaded.deployment.family
    given = weights or [p for p in [loaded.out / "model.safetensors"] if p.exists()]
    models = {"original": base}
    models |= {str(path): with_stored_weights(base, path) for path in given}
    panel = Panel.of(loaded.test, loaded.test_table, loaded.requests)
    found = {name: measure(family, model, panel, loaded.run()) for name, model in models.items()}
    intervals = {name: scores.retained_interval() for name, scores in found.items()}
    console.print(
        table(
            "Held-out accuracy",
            ["model", *panel.names, "retained", "95 %"],
            [
                [
                    name,
                    *scores.requests.tolist(),
                    scores.retained,
                    f"{intervals[name].low:.2f}-{intervals[name].high:.2f}",
                ]
                for name, scores in found.items()
            ],
        )
    )
    write_json(
        json,
        {
            name: {
                "requests": dict(zip(panel.names, scores.requests.tolist(), strict=True)),
                "confidence": dict(zip(panel.names, scores.confidence.tolist(), strict=True)),
                "retained": scores.retained,
                "interval": [intervals[name].low, intervals[name].high],
            }
            for name, scores in found.items()
        },
    )
