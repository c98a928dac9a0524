"""``expunge audit RUN_FILE``: a verdict per question; ``--self-test``: can they be believed."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import datasets
import typer

from expunge import __version__
from expunge.audit.audit import Audit, Audited
from expunge.audit.audit_page import write_page
from expunge.audit.inquiry import Level
from expunge.audit.policy import QUESTIONS, Policy
from expunge.audit.self_test import SelfTest, self_test
from expunge.audit.verdict import Result, Verdict
from expunge.cli.audited import deployed_of, history_of, removal_of
from expunge.cli.output import JsonPath, console, table, writable_folder, write_json
from expunge.errors import ExpungeError
from expunge.run_file.reading import read

EXIT = {Result.PASS: 0, Result.FAIL: 1, Result.UNKNOWN: 3}
"""Exit codes by result; 2 is an error of what was given, as everywhere."""

FILE = "audit.json"
"""What is written to --out: everything that a report is rendered from."""

PAGE = "report.html"
"""The report beside it."""

REFERENCES = "references"
"""The folder of --out for oracles and shadow models, which a later audit finds again."""

SHORT = {Result.PASS: "pass", Result.FAIL: "FAIL", Result.UNKNOWN: "?"}


def model(
    run_file: Annotated[
        Path | None, typer.Argument(help="YAML run file; docs/run_file.md explains it.")
    ] = None,
    level: Annotated[
        Level,
        typer.Option(
            help="quick trains nothing; standard trains 3 oracles and 8 shadow models; "
            "adversarial trains populations of them."
        ),
    ] = Level.STANDARD,
    policy: Annotated[
        Path | None,
        typer.Option(help="YAML file of thresholds; docs/verification.md explains every key."),
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(
            "--model",
            help="Weights to audit instead of what `expunge forget` stored: a safetensors file, or "
            "a Hugging Face folder where the run file has a checkpoint.",
        ),
    ] = None,
    oracle: Annotated[
        list[Path] | None,
        typer.Option(help="Weights of a model that never saw the forgotten rows; may be repeated."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for audit.json, report.html and the models that were trained; a later "
            "audit with the same folder does not train them again."
        ),
    ] = None,
    self_tested: Annotated[
        bool,
        typer.Option("--self-test", help="Audit models of which it is known what must come out."),
    ] = False,
    seeds: Annotated[int, typer.Option(min=1, help="Of --self-test.")] = 3,
    json: JsonPath = None,
) -> None:
    """Ask a deployed model whether it forgot: a verdict per question, and an exit code."""
    limits = Policy() if policy is None else Policy.read(policy)
    if out is not None:
        writable_folder(out, "The folder of --out,")
    if self_tested == (run_file is not None):
        raise ExpungeError(
            "Give a run file to audit its model, or --self-test alone to test the audit itself."
        )
    if run_file is None:
        _test(limits, seeds, out, json)
    else:
        _audit(run_file, level, limits, weights, oracle or [], out, json)


def _audit(
    run_file: Path,
    level: Level,
    limits: Policy,
    weights: Path | None,
    oracle: list[Path],
    out: Path | None,
    json: Path | None,
) -> None:
    loaded = read(run_file)
    deployed = deployed_of(loaded, weights)
    audit = Audit.of(
        removal_of(loaded, loaded.run()),
        limits,
        level,
        oracles=[loaded.with_weights(path) for path in oracle],
        folder=None if out is None else out / REFERENCES,
    )
    steps, state = history_of(loaded, deployed) if weights is None else ((), None)
    audited = audit.ask(deployed, steps, state)
    _show(audited, audit.removal.name)
    figures = {
        **audited.to_json(),
        "expunge": __version__,
        "run file": str(run_file),
        "method": loaded.method.name,
        "exit code": EXIT[audited.result],
    }
    _write(figures, out, json)
    if out is not None:
        write_page(figures, out / PAGE)
        console.print(f"Report: {out / PAGE}", soft_wrap=True)
    raise typer.Exit(EXIT[audited.result])


def _show(audited: Audited, name: str) -> None:
    rows = [[verdict.question, SHORT[verdict.result]] for verdict in audited.verdicts]
    console.print(
        table(f"Audit of {name}, level {audited.level.value}", ["question", "verdict"], rows)
    )
    for verdict in audited.verdicts:
        _explain(verdict)
    seconds = audited.facts["seconds"]["all"]
    words = audited.facts["references"]["in words"]
    console.print(f"Verdict: {audited.result.value} ({words}, {seconds:.0f} s).")


def _explain(verdict: Verdict) -> None:
    console.print(f"{verdict.asks} {verdict.result.value}")
    for item in verdict.evidence:
        console.print(f"  {SHORT[item.result]:4} {item.sentence}", soft_wrap=True)
    for sentence in verdict.missing:
        console.print(f"  {SHORT[Result.UNKNOWN]:4} {sentence}", soft_wrap=True)
    for sentence in verdict.notes:
        console.print(f"       {sentence}", soft_wrap=True)


def _test(limits: Policy, seeds: int, out: Path | None, json: Path | None) -> None:
    datasets.disable_progress_bars()
    found = self_test(range(seeds), limits, told=console.print)
    _show_confusion(found, seeds)
    for row in found.rows:
        for sentence in row.broken:
            console.print(sentence, soft_wrap=True)
    passed = "passed" if found.passed else "FAILED"
    console.print(f"Self-test {passed}: {len(found.rows)} audits over {seeds} seeds.")
    code = EXIT[Result.PASS if found.passed else Result.FAIL]
    _write({**found.to_json(), "expunge": __version__, "exit code": code}, out, json)
    raise typer.Exit(code)


def _show_confusion(found: SelfTest, seeds: int) -> None:
    rows: list[list[object]] = []
    for name, row in found.confusion.items():
        rows.append([name, *(_counts(row[question]) for question in QUESTIONS)])
    console.print(
        table(f"Verdicts of models that are known ({seeds} seeds)", ["model", *QUESTIONS], rows)
    )


def _counts(counts: Mapping[Result, int]) -> str:
    """Such as ``3 FAIL`` or ``2 pass 1 ?``."""
    return " ".join(f"{n} {SHORT[result]}" for result, n in counts.items() if n)


def _write(figures: dict[str, Any], out: Path | None, json: Path | None) -> None:
    if out is not None:
        write_json(out / FILE, figures)
    write_json(json, figures)
