"""From a run file to an audit: the rows, the model that ``expunge forget`` stored, its history."""

import json
from dataclasses import replace
from pathlib import Path, PurePath
from typing import Any

import datasets
import torch
from torch import Tensor, nn

from expunge.aggregation.compose import behind, compose
from expunge.audit.inquiry import Step
from expunge.audit.measure import rows_held
from expunge.audit.removal import Removal, Unlearner
from expunge.changes.deletion import DeletionState
from expunge.changes.history import Epoch, Served
from expunge.changes.kinds import Change, Guard, Replacement
from expunge.changes.stored import load
from expunge.changes.weights import digest_of
from expunge.cli.stored import HISTORY, MODEL
from expunge.data.duplicates.content import Searched
from expunge.data.samples import Samples, all_but
from expunge.deployment import Deployment
from expunge.errors import ExpungeError
from expunge.requests import Request, Rows
from expunge.run import Run
from expunge.run_file.reading import Loaded


def removal_of(loaded: Loaded, run: Run) -> Removal:
    """All requests of a run file as one removal, judged on its test rows.

    Raises:
        ExpungeError: a request names no row, or too few rows are left of one kind.
    """
    deployment = loaded.deployment
    forget = _positions([r.target.rows(deployment.table) for r in loaded.requests])
    named = _positions([rows_held(r.target, loaded.test_table) for r in loaded.requests])
    tables = _tables(loaded)
    return Removal(
        ", ".join(request.name for request in loaded.requests),
        deployment.base,
        deployment.family,
        deployment.train.select(forget),
        deployment.train.select(all_but(len(deployment.train), forget)),
        loaded.test,
        run,
        deployment.recipe,
        named=named if len(named) else None,
        searched=tables.get("train"),
        forget_rows=forget,
        compared=_compared(loaded, tables),
        unseen=tables.get("test"),
        unlearner=_unlearner(loaded),
    )


def deployed_of(loaded: Loaded, given: Path | None) -> nn.Module:
    """The model to audit: of ``--model``, or what ``expunge forget`` stored, behind its guards.

    Raises:
        ExpungeError: none is there, or it is no model of this run file.
        IntegrityError: a stored guard is damaged.
    """
    path = given or loaded.out / MODEL
    if given is None and not path.exists():
        raise ExpungeError(
            f"There is no {path} to audit; run `expunge forget` on this run file, or name the "
            "model with --model."
        )
    model = loaded.with_weights(path)
    return model if given is not None else _guarded(loaded, model)


def history_of(
    loaded: Loaded, deployed: nn.Module
) -> tuple[tuple[Step, ...], DeletionState | None]:
    """The model after each request that was stored, and the deletion state; () and None where the
    last of them is not this model.

    Raises:
        ExpungeError: the history is damaged, or is of other requests than the run file's.
    """
    history = _history(loaded, deployed)
    if history is None:
        return (), None
    try:
        return tuple(_steps(loaded, history)), DeletionState(history["deletion state"])
    except UNREADABLE as error:
        raise _unreadable(loaded, error) from None


UNREADABLE = (ValueError, KeyError, TypeError, AttributeError)
"""What a history that somebody changed may raise."""


def _unreadable(loaded: Loaded, error: Exception) -> ExpungeError:
    return ExpungeError(
        f"{loaded.out / HISTORY} is no readable history ({type(error).__name__}: {error}); run "
        "`expunge forget` again, or name the model with --model."
    )


def _history(loaded: Loaded, deployed: nn.Module) -> dict[str, Any] | None:
    """The stored history; None where there is none, or it ends in other weights.

    Raises:
        ExpungeError: it is damaged.
    """
    path = loaded.out / HISTORY
    if not path.exists():
        return None
    try:
        history: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return history if history["model"]["digest"] == digest_of(deployed) else None
    except UNREADABLE as error:
        raise _unreadable(loaded, error) from None


def _guarded(loaded: Loaded, model: nn.Module) -> nn.Module:
    """The stored weights behind the guards of the last epoch of their history."""
    history = _history(loaded, model)
    if history is None:
        return model
    try:
        entries = history["epochs"][-1]["requests"]
        changes = [change for entry in entries for change in entry["changes"]]
        guards = [_read(loaded, change) for change in changes if change["acts on"] == "answers"]
    except UNREADABLE as error:
        raise _unreadable(loaded, error) from None
    return behind(model, [guard for guard in guards if isinstance(guard, Guard)])


def _read(loaded: Loaded, change: dict[str, Any]) -> Change:
    """A stored change."""
    return load(change["kind"], loaded.out / PurePath(change["file"]).name)


def _steps(loaded: Loaded, history: dict[str, Any]) -> list[Step]:
    deployment = loaded.deployment
    requests = {request.digest(): request for request in loaded.requests}
    places = _positions([r.target.rows(deployment.table) for r in loaded.requests])
    steps: list[Step] = []
    base = deployment.base
    for stored in history["epochs"]:
        epoch = Epoch(digest_of(base))
        for entry in stored["requests"]:
            request = requests.get(entry["digest"])
            if request is None:
                raise ExpungeError(
                    f"{loaded.out / HISTORY} answered the request {entry['name']!r}, which the run "
                    "file does not have; audit with the run file that it was made with, or name "
                    "the model with --model."
                )
            changes = tuple(_read(loaded, change) for change in entry["changes"])
            for new in (change for change in changes if isinstance(change, Replacement)):
                base = new.applied_to(base)
                epoch, changes = Epoch(digest_of(base)), ()
            served = Served(request, changes, float(entry["strength"]))
            epoch = replace(epoch, served=(*epoch.served, served))
            model = compose(base, epoch, deployment.rule)
            own = torch.isin(places, request.target.rows(deployment.table))
            steps.append(Step(request.name, model, own.nonzero().reshape(-1)))
    return steps


def _positions(parts: list[Tensor]) -> Tensor:
    """Each position once, ascending."""
    found = sorted({place for part in parts for place in part.tolist()})
    return torch.tensor(found, dtype=torch.int64)


def _tables(loaded: Loaded) -> dict[str, Searched]:
    """The training and the test table, where they can be searched."""
    tables = {"train": loaded.deployment.table, "test": loaded.test_table}
    return {
        name: Searched(name, table)
        for name, table in tables.items()
        if isinstance(table, datasets.Dataset)
    }


def _compared(loaded: Loaded, tables: dict[str, Searched]) -> tuple[str, ...]:
    """The input columns of the run file, of a language model the prompts; those of content where it
    names none."""
    mapped = loaded.file.data.train.columns
    given = mapped.prompt or mapped.text or mapped.input
    columns = (given,) if isinstance(given, str) else tuple(given)
    held = all(set(table.table.column_names).issuperset(columns) for table in tables.values())
    return columns if held else ()


def _unlearner(loaded: Loaded) -> Unlearner:
    """The run file's method, all requests answered as one."""
    deployment = loaded.deployment

    def unlearned(model: nn.Module, rows: Samples, forget: Tensor, run: Run) -> nn.Module:
        ids = list(rows.ids)
        table = datasets.Dataset.from_dict({"id": ids})
        recipe = deployment.recipe
        other = Deployment(
            model,
            deployment.family,
            rows,
            table,
            deployment.rule,
            data=deployment.data,
            recipe=None if recipe is None else recipe.with_seed(run.seed),
        )
        request = Request("audited", Rows("id", tuple(ids[place] for place in forget.tolist())))
        strength = 1.0 if loaded.method.sequential else loaded.file.strength
        with run.seeded(f"audit {loaded.method.name}"):
            other.forget(request, loaded.method, run, strength)
        return other.model

    return unlearned
