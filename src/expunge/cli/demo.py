"""``expunge demo``: five requests in a row on a real vision-language model, and the proof."""

from pathlib import Path
from typing import Annotated

import typer

from expunge.audit.report import write_report
from expunge.benchmarks import demo_report
from expunge.benchmarks.demo import retrained, run_demo
from expunge.cli.output import JsonPath, console, table, writable_folder, write_json
from expunge.errors import IntegrityError
from expunge.run import Run


def demo(
    out: Annotated[Path, typer.Option(help="Folder of the report.")] = Path("demo-report"),
    retrain_oracle: Annotated[
        bool, typer.Option(help="Retrain the oracle instead of using the shipped one.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Seed of the requests' randomness.")] = 0,
    json: JsonPath = None,
) -> None:
    """Forget five groups of concepts in a row; show what was forgotten, kept, and stays so."""
    writable_folder(out, "The folder of --out,")
    run = Run(seed, console=console)
    oracle = retrained(Run(console=console)) if retrain_oracle else None
    done = run_demo(run, out / "ledger", oracle)
    figures = demo_report.report(done)
    console.print(figures["summary"])
    for title, (columns, rows) in demo_report.printed(figures).items():
        console.print(table(title, columns, rows))
    console.print(f"Peak memory of the process: {run.meter.peak_bytes / 2**20:,.0f} MiB")
    for statement in figures["statements"]:
        console.print(f"- {statement}")
    for sentence in demo_report.proven(done):
        console.print(f"- {sentence}")
    for limit in figures["limits"]:
        console.print(f"Limit: {limit}")
    written = write_report(figures, out)
    console.print(f"Report: {written[0]}")
    write_json(json, figures)
    if not (done.ledger.equal and done.ledger.revoked_equal and done.ledger.verified.holds):
        raise IntegrityError(
            "The ledger's weights are not those that were folded in memory, or it does not verify; "
            f"the largest difference is {done.ledger.difference:g}. Please report this."
        )
