"""``expunge compare``: methods on the same seeds, with oracle and original beside them."""

import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import pandas
import typer

from expunge.audit.case import Case
from expunge.audit.comparison import (
    MATCHED,
    ORIGINAL,
    VARIANTS,
    Cells,
    Comparison,
    Contender,
    Variant,
)
from expunge.audit.comparison_page import (
    HEADINGS,
    digits_of,
    interval_text,
    latex,
    page,
    spread_text,
)
from expunge.audit.comparison_tables import GAP, MEMORY, RETAINED, SECONDS, Compared, Spread
from expunge.audit.measure import Panel
from expunge.audit.tuning import Trials, Tuned
from expunge.cli.cases import (
    case_of,
    given_oracle,
    machine,
    setting_digest,
    shared_setting,
    validation_panel,
)
from expunge.cli.output import JsonPath, console, table, told, writable_folder, write_json
from expunge.cli.own_method import MethodClass, method_classes
from expunge.errors import ExpungeError
from expunge.methods.presets import AtPreset, fields_of, starting_point
from expunge.run import Run
from expunge.run_file.reading import PAPER, PRESET, Loaded, read
from expunge.signals.ask import metric_of
from expunge.storage import write_bytes

FEWEST = 3
"""Seeds below which nothing can be said of the spread."""


class Settings(StrEnum):
    """What methods that are not tuned are run with."""

    PRESET = "preset"
    PAPER = "paper"


COST = (SECONDS, MEMORY)
DIGITS = 2
"""Decimals of scores on the terminal; the files have three, the records all."""


def compare(
    run_file: Annotated[Path, typer.Argument(help="YAML run file; docs/run_file.md explains it.")],
    methods: Annotated[
        list[str],
        typer.Argument(
            metavar="METHOD", help="Registered names, or your own .py file, which is run."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder of tables and finished cells.")],
    seeds: Annotated[int, typer.Option(min=1, help="Number of seeds, from the run file's.")] = 3,
    tuned: Annotated[
        Path | None, typer.Option(help="Trials of `expunge tune`: take the best parameters.")
    ] = None,
    settings: Annotated[
        Settings, typer.Option(help="Of methods that are not tuned: their presets, or the paper's.")
    ] = Settings.PRESET,
    tolerance: Annotated[
        float, typer.Option(min=0, help="What matched methods may lose of the retained score.")
    ] = 0.02,
    oracle: Annotated[
        Path | None, typer.Option(help="Weights of the oracle, where there is no recipe.")
    ] = None,
    json: JsonPath = None,
) -> None:
    """Compare methods at equal retained performance, with paired tests over seeds."""
    writable_folder(out, "The folder of --out,")
    loaded = read(run_file)
    validation = validation_panel(loaded, "Methods are matched")
    classes = method_classes(methods)
    case = case_of(loaded)
    comparison = _comparison(loaded, case, validation, oracle, seeds, tolerance, out)
    contenders = _contenders(loaded, comparison, classes, tuned, settings)
    cells = comparison.conduct(contenders, _told)
    compared = Compared(
        tuple(request.name for request in loaded.requests),
        metric_of(case.family),
        comparison.chance(),
        tolerance,
        comparison.seeds,
        comparison.retrains,
        tuple(contenders),
        cells,
        _facts(run_file, loaded),
    )
    _show(compared)
    _store(compared, out, run_file, loaded)
    write_json(json, figures(compared))


def _comparison(
    loaded: Loaded,
    case: Case,
    validation: Panel,
    oracle: Path | None,
    seeds: int,
    tolerance: float,
    out: Path,
) -> Comparison:
    first = loaded.file.seed
    return Comparison(
        case,
        validation,
        Panel.of(loaded.test, loaded.test_table, loaded.requests),
        tuple(range(first, first + seeds)),
        tolerance,
        lambda seed: Run(seed, loaded.file.device, loaded.file.precision),
        machine(loaded),
        Cells(out / "cells"),
        given_oracle(loaded, oracle),
    )


def _contenders(
    loaded: Loaded,
    comparison: Comparison,
    classes: Sequence[MethodClass],
    tuned: Path | None,
    settings: Settings,
) -> list[Contender]:
    """Every method at its preset or the paper's defaults, or at the best of its trials."""
    if tuned is None:
        return [_untuned(c, settings) for c in classes]
    if not tuned.exists():
        raise ExpungeError(
            f"There is no file {tuned}; make it with `expunge tune`, or leave --tuned out."
        )
    trials = Trials(tuned)
    shared = shared_setting(loaded, comparison.case, comparison.validation, comparison.oracle)
    found = [trials.found(c.name, setting_digest(shared, c), c.space) for c in classes]
    _say_budgets([t for t in found if t is not None and t.space.ranges])
    return [
        _best(each, its, tuned, comparison.case) for each, its in zip(classes, found, strict=True)
    ]


def _untuned(each: MethodClass, settings: Settings) -> Contender:
    preset = each.at_preset() if settings is Settings.PRESET else None
    if preset is None:
        return Contender(each.name, each.made({}), PAPER, each.source)
    return Contender(each.name, preset, PRESET, each.source)


def _say_budgets(found: Sequence[Tuned]) -> None:
    if len({len(each.trials) for each in found}) > 1:
        counts = ", ".join(f"{each.method} {len(each.trials)}" for each in found)
        console.print(
            f"The methods were not tuned alike; their trials are {counts}. Bring all to one number "
            "with `expunge tune`.",
            soft_wrap=True,
        )


def _best(each: MethodClass, found: Tuned | None, storage: Path, case: Case) -> Contender:
    if found is None and case.unfit(each.made({})) is not None:
        return Contender(each.name, each.made({}), "not tuned, since it does not fit", each.source)
    if found is None and not each.space.ranges:
        return Contender(each.name, each.made({}), "nothing to tune", each.source)
    if found is None:
        raise ExpungeError(
            f"{storage} holds no trial of {each.name!r} for this run file, this version and "
            "this code of the method; run `expunge tune` for it first, or leave --tuned out."
        )
    if found.best is None:
        chosen = f"{PAPER}; all {len(found.trials)} trials failed"
        return Contender(each.name, each.made({}), chosen, each.source)
    chosen = f"tuned, trial {found.best.number} of {len(found.trials)}"
    if found.best.preset and (preset := each.at_preset()) is not None:
        return Contender(each.name, preset, f"{chosen}: {PRESET}", each.source)
    if not each.space.ranges:
        chosen = "nothing to tune"
    return Contender(each.name, each.made(found.best.parameters), chosen, each.source)


def _told(name: str, seed: int, stored: bool) -> None:
    told(f"seed {seed}: {name}", stored)


def _show(compared: Compared) -> None:
    for variant in VARIANTS:
        _show_table(compared, variant)
    _show_cost(compared)
    console.print(compared.caption(), soft_wrap=True)
    console.print(compared.level(), soft_wrap=True)
    for contender in compared.contenders:
        console.print(
            f"{contender.name} ({contender.chosen}): {_values(compared, contender) or '-'}",
            soft_wrap=True,
        )
    if len(compared.contenders) > 1:
        outcome = GAP if compared.has_oracle else RETAINED
        for variant in VARIANTS:
            _show_tests(compared, variant, outcome)
        console.print(compared.caution(), soft_wrap=True)
    if len(compared.seeds) < FEWEST:
        console.print(
            f"{len(compared.seeds)} of at least {FEWEST} seeds: this says nothing of the spread.",
            soft_wrap=True,
        )


def _values(compared: Compared, contender: Contender) -> str:
    """The fields; what a preset made of them on the first seed, request by request."""
    first = compared.cells[contender.name, compared.seeds[0]].presets
    if not first:
        return _listed(fields_of(starting_point(contender.method)))
    start = fields_of(starting_point(contender.method))
    shown = [
        _listed({name: v for name, v in found.items() if v != start.get(name)}) or "as the paper"
        for found in first
    ]
    where = f" on seed {compared.seeds[0]}" if len(compared.seeds) > 1 else ""
    return "; ".join(dict.fromkeys(shown)) + where


def _listed(values: Mapping[str, object]) -> str:
    return ", ".join(f"{name} {_short(value)}" for name, value in values.items())


def _show_table(compared: Compared, variant: Variant) -> None:
    rows = compared.rows(variant)
    columns = [c for c in compared.columns() if c not in COST]
    shown = [[row.name, *(_narrow(row.columns[c], DIGITS) for c in columns)] for row in rows]
    _print(HEADINGS[variant], ["", *columns], shown)
    for row in rows:
        if row.note:
            console.print(f"{row.name}: {row.note}", soft_wrap=True)


def _show_cost(compared: Compared) -> None:
    rows = [
        [
            row.name,
            _narrow(row.factor, DIGITS),
            *(_narrow(row.columns[c], digits_of(c)) for c in COST),
        ]
        for row in compared.rows(MATCHED)
        if row.columns[SECONDS] is not None
    ]
    _print("Factor when matched, and cost of all requests", ["", "factor", *COST], rows)
    console.print("MiB: the most memory that the whole process held meanwhile.")


def _print(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A table whose names stay whole: where it is too wide, its numbers fold instead."""
    shown = table(title, columns, rows)
    shown.columns[0].no_wrap = True
    console.print(shown)


def _narrow(found: Spread | None, digits: int) -> str:
    return spread_text(found, digits).replace(" ", "")


def _show_tests(compared: Compared, variant: Variant, outcome: str) -> None:
    pairs = compared.tests(variant).get(outcome, [])
    if not pairs:
        return
    rows = [
        [
            f"{pair.first} - {pair.second}",
            f"{pair.difference:+.3f}",
            interval_text(pair),
            f"{pair.p:.3g}",
            f"{pair.holm:.3g}",
        ]
        for pair in pairs
    ]
    title = f"{HEADINGS[variant]}: differences in {outcome}, paired by seed"
    console.print(table(title, ["pair", "difference", "95 % (t)", "p", "p (Holm)"], rows))


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _facts(run_file: Path, loaded: Loaded) -> dict[str, str]:
    facts = {
        "run_file": run_file.name,
        "run_file_sha256": hashlib.sha256(run_file.read_bytes()).hexdigest(),
        "aggregation": loaded.file.aggregation,
        **{name: str(value) for name, value in machine(loaded).items()},
    }
    return {**facts, "strength": str(loaded.file.strength)}


def _store(compared: Compared, out: Path, run_file: Path, loaded: Loaded) -> None:
    content = io.BytesIO()
    pandas.DataFrame(compared.records()).to_parquet(content, index=False)
    title = f"Methods compared on {run_file.name}"
    details = [
        *((name, text) for name, text in compared.facts.items()),
        ("seeds", ", ".join(map(str, compared.seeds))),
        *((f"base, seed {s}", compared.cells[ORIGINAL, s].base) for s in compared.seeds),
        *((f"code of {c.name}", c.source) for c in compared.contenders),
    ]
    write_bytes(out / "results.parquet", content.getvalue())
    write_bytes(out / "table.tex", latex(compared).encode())
    write_bytes(out / "table.html", page(compared, title, details).encode())
    console.print(
        f"Written to {out}: results.parquet, table.tex, table.html, cells", soft_wrap=True
    )


def figures(compared: Compared) -> dict[str, Any]:
    """Everything as JSON values: tables, tests and records."""
    return {
        "caption": compared.caption(),
        "matched": compared.level(),
        "caution": compared.caution(),
        "seeds": list(compared.seeds),
        "tables": {
            variant: {
                row.name: {
                    "columns": {c: v and asdict(v) for c, v in row.columns.items()},
                    "factor": row.factor and asdict(row.factor),
                    "note": row.note,
                }
                for row in compared.rows(variant)
            }
            for variant in VARIANTS
        },
        "tests": {
            variant: {name: [asdict(p) for p in pairs] for name, pairs in tests.items()}
            for variant in VARIANTS
            for tests in [compared.tests(variant)]
        },
        "presets": {
            c.name: {str(s): list(compared.cells[c.name, s].presets) for s in compared.seeds}
            for c in compared.contenders
            if isinstance(c.method, AtPreset)
        },
        "records": compared.records(),
    }
