"""``expunge audit``: what an adversary would ask of a model, and of the methods that edit it."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
import yaml
from torch import Tensor

from expunge.audit.worst_case import (
    BY_GROUP,
    CrossFitted,
    Difficulty,
    Goal,
    Searched,
    WorstCase,
    groups_of,
)
from expunge.cli import audit_model, audit_report
from expunge.cli.default_command import DEFAULT, WithDefault
from expunge.cli.output import JsonPath, console, table, writable, write_json
from expunge.errors import ExpungeError
from expunge.run import Run
from expunge.run_file.reading import Loaded, read
from expunge.storage import write_bytes

app = typer.Typer(no_args_is_help=True, cls=WithDefault)
app.command(DEFAULT)(audit_model.model)
app.command("report")(audit_report.report)

SHOWN = 10
"""Names printed on the terminal; the files of --out and --json have all."""


@app.callback()
def audit() -> None:
    """Questions to a model, and to the methods that edit it."""


@app.command("worst-case")
def worst_case(
    run_file: Annotated[Path, typer.Argument(help="YAML run file; docs/run_file.md explains it.")],
    budget: Annotated[
        str, typer.Option(help="Rows to choose, or a share of them below 1, such as 0.1.")
    ] = "0.1",
    by: Annotated[
        str | None,
        typer.Option(help="Choose whole groups by this column, such as label or subject."),
    ] = None,
    easiest: Annotated[
        bool, typer.Option("--easiest", help="The other end: the rows that are easiest to forget.")
    ] = False,
    retrain: Annotated[
        bool,
        typer.Option(
            "--retrain",
            help="Beside it: random rows, a baseline without a search, and retraining without "
            "each (8 trainings with the run file's recipe).",
        ),
    ] = False,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Of the search; the run file's by default.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Write a request that names what was found, as YAML.")
    ] = None,
    json: JsonPath = None,
) -> None:
    """Search the training rows that are hardest to make the model forget."""
    if out is not None:
        writable(out, "The file of --out,")
    loaded = read(run_file)
    if retrain and loaded.deployment.recipe is None:
        raise ExpungeError(
            f"--retrain was given and {run_file} has no recipe to retrain from; give the key "
            "`recipe`, or leave --retrain out."
        )
    groups, names, column = _groups(loaded, by)
    size = budget_of(budget, len(names), by)
    run = loaded.run(console=console)
    if seed is not None:
        run = dataclasses.replace(run, seed=seed)
    goal = Goal.EASIEST if easiest else Goal.HARDEST
    search = dataclasses.replace(WorstCase() if by is None else BY_GROUP, goal=goal)
    deployment = loaded.deployment
    found = search.search(deployment.base, deployment.family, deployment.train, size, run, groups)
    ids = [names[place] for place in found.chosen.tolist()]
    _say(found, search, ids, by)
    figures: dict[str, Any] = {
        "goal": search.goal.value,
        "column": column,
        "found": ids,
        "of": len(names),
        "overlap with a random choice": found.overlap,
        "loss after unlearning": {"found": found.end, "random": found.start},
        "search": repr(search),
        "seed": run.seed,
    }
    if retrain:
        compared = _compared(loaded, search, found, groups, run)
        _show(compared)
        figures["retrained"] = {n: dataclasses.asdict(one) for n, one in compared.items()}
    if out is not None:
        request = {"name": f"{search.goal.value} to forget", "column": column, "values": ids}
        content = yaml.safe_dump({"requests": [request]}, sort_keys=False, allow_unicode=True)
        write_bytes(out, content.encode())
        console.print(f"Request: {out}", soft_wrap=True)
    write_json(json, figures)


def budget_of(given: str, count: int, by: str | None) -> int:
    """How many of ``count`` rows, or groups, a budget of rows or a share means.

    Raises:
        ExpungeError: it is neither, or it would leave or choose nothing.
    """
    what = "rows" if by is None else f"values of {by!r}"
    try:
        number = float(given)
    except ValueError:
        number = float("nan")
    size = round(number * count) if 0 < number < 1 else number
    if not 1 <= size < count or size != int(size):
        raise ExpungeError(
            f"A --budget of {given} was given for {count} {what}; a whole number from 1 to "
            f"{count - 1} is expected, or a share below 1 that means at least one of them."
        )
    return int(size)


def _groups(loaded: Loaded, by: str | None) -> tuple[Tensor | None, tuple[str, ...], str]:
    """The group of each row (None: each row is one), the names of all, and their column."""
    deployment = loaded.deployment
    if by is None:
        return None, tuple(deployment.train.ids), "id"
    columns = deployment.table.column_names
    if by not in columns:
        raise ExpungeError(
            f"--by names the column {by!r}; the training table has {', '.join(sorted(columns))}. "
            "Name one of these."
        )
    return *groups_of(deployment.table[by][:]), by


def _say(found: Searched, search: WorstCase, ids: list[str], by: str | None) -> None:
    """What was found, in words."""
    what = "rows" if by is None else f"values of {by!r}"
    more = f" and {len(ids) - SHOWN} more" if len(ids) > SHOWN else ""
    console.print(
        f"The {search.goal.value} to forget: {len(ids)} {what} ({', '.join(ids[:SHOWN])}{more}).",
        soft_wrap=True,
    )
    chance = len(ids) ** 2 / found.history.shape[1]
    console.print(
        f"Mean loss on them of a model that unlearned them: {found.end:.3g}; the same of as many "
        f"at random: {found.start:.3g}. {found.overlap} are in both choices ({chance:.0f} by "
        "chance).",
        soft_wrap=True,
    )


def _compared(
    loaded: Loaded, search: WorstCase, found: Searched, groups: Tensor | None, run: Run
) -> dict[str, Difficulty]:
    """What was found, random rows and the baseline, each beside a model retrained without it."""
    deployment = loaded.deployment
    recipe, train = deployment.recipe, deployment.train
    assert recipe is not None  # it was asked for before the search
    fitted, size = CrossFitted(), len(found.chosen)
    losses = fitted.losses(recipe, train, run, groups)
    end = "lowest" if search.goal is Goal.HARDEST else "highest"
    sets: Mapping[str, Tensor] = {
        f"{search.goal.value} (search)": found.chosen,
        f"{end} cross-fitted loss": fitted.chosen(losses, size, search.goal),
        "random": found.random,
    }
    return {
        name: Difficulty.of(recipe, deployment.base, train, _rows(chosen, groups), run)
        for name, chosen in sets.items()
    }


def _rows(chosen: Tensor, groups: Tensor | None) -> Tensor:
    """Positions of the rows of what was chosen."""
    return chosen if groups is None else torch.isin(groups, chosen).nonzero().reshape(-1)


def _show(compared: Mapping[str, Difficulty]) -> None:
    """The table of sets, and how it is read."""
    rows = [
        [
            name,
            f"{one.original_loss:.3g}",
            f"{one.retrained_loss:.3g}",
            *(
                None if share is None else f"{100 * share:.1f}"
                for share in (one.original_wrong, one.retrained_wrong)
            ),
        ]
        for name, one in compared.items()
    ]
    columns = ["set", "loss original", "loss retrained", "UA % original", "UA % retrained"]
    console.print(table("The chosen rows, before and after a real removal", columns, rows))
    console.print(
        "Retrained is a model of the same recipe that never saw the rows: a method that answers "
        "them much worse removes too much. Where it answers all of them, accuracy shows no "
        "forgetting.",
        soft_wrap=True,
    )
