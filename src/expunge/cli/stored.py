"""What ``expunge forget`` stores: each change, the model, and how they fold into one another."""

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from expunge import __version__
from expunge.changes.deletion import DeletionState, certified_of, deletion_state
from expunge.changes.guarded import unguarded
from expunge.changes.history import History, Served
from expunge.changes.kinds import Change, acts_on
from expunge.changes.stored import kind_of, save
from expunge.changes.weights import digest_of, stored_tensors
from expunge.cli.output import writable_folder
from expunge.errors import ExpungeError
from expunge.methods.presets import fields_of, presets_of, starting_point
from expunge.recipe import Record, belongs, record_of
from expunge.run_file.reading import Loaded
from expunge.run_file.records import RECORD
from expunge.storage import write_bytes, write_tensors

HISTORY = "history.json"
MODEL = "model.safetensors"
CHECKPOINT = "checkpoint"
"""The folder of the model in the layout of its checkpoint."""


def check_folder(out: Path) -> None:
    """Make sure that results can be stored in ``out``.

    Raises:
        ExpungeError: it holds something, is a file, or may not be written.
    """
    writable_folder(out, "The folder of `out`,")
    if out.exists() and any(out.iterdir()):
        raise ExpungeError(
            f"The folder {out} is not empty and holds an earlier result; name another `out`, or "
            "remove it."
        )


def store(loaded: Loaded) -> None:
    """Write one file for each change, the model with its record where it has one, and last
    ``history.json``, which lists them.

    A model that was read from a checkpoint is also written as one, save where its weights still
    know what is refused: as a folder nothing would keep it back. Of a guarded model its weights are
    written, which the guard leaves as they were; its file is among those of the changes, and so
    is that of a redaction, which whoever serves the model has to apply.

    Raises:
        ExpungeError: a change is of a kind that has no file; nothing was written.
    """
    files = file_names(loaded.deployment.history)
    for name, change in files:
        save(change, loaded.out / name)
    model = unguarded(loaded.deployment.model)
    write_tensors(loaded.out / MODEL, stored_tensors(model), {"digest": digest_of(model)})
    suppressed = deletion_state(loaded.deployment.history) is DeletionState.SUPPRESSED
    if loaded.checkpoint is not None and not suppressed:
        loaded.checkpoint.save(model, loaded.out / CHECKPOINT)
    record = record_now(loaded)
    if record is not None:
        record.save(loaded.out / RECORD)
    content = json.dumps(history_of(loaded, files), indent=2, sort_keys=True) + "\n"
    write_bytes(loaded.out / HISTORY, content.encode())


def record_now(loaded: Loaded) -> Record | None:
    """The training record of the model after all requests; None where the last of them left none.

    Beside it goes no guard: a record is of weights.
    """
    record, model = loaded.deployment.record, unguarded(loaded.deployment.model)
    if record is None or not belongs(record, model):
        return None
    return record_of(model, record)


def file_names(history: History) -> list[tuple[str, Change]]:
    """Every change with the name of its file, in request order.

    Raises:
        ExpungeError: a change is of a kind that has no file.
    """
    found: list[tuple[str, Change]] = []
    for i, entry in enumerate(_served(history), 1):
        for k, change in enumerate(entry.changes, 1):
            part = f"{i}-{k}" if len(entry.changes) > 1 else str(i)
            found.append((f"{part}-{kind_of(change)}.safetensors", change))
    return found


def folds_deltas(history: History) -> bool:
    """Whether a rule combined anything."""
    return any(epoch.deltas() for epoch in history.epochs)


def history_of(loaded: Loaded, files: Sequence[tuple[str, Change]]) -> dict[str, Any]:
    """The history as JSON values: enough to fold every version again."""
    deployment, out = loaded.deployment, loaded.out
    names = {id(change): name for name, change in files}

    def stored(change: Change) -> dict[str, Any]:
        name, proven = names[id(change)], certified_of(change)
        found = {"kind": kind_of(change), "acts on": acts_on(change), **_stored(out, name)}
        return found if proven is None else {**found, "certified": dataclasses.asdict(proven)}

    def served(entry: Served) -> dict[str, Any]:
        return {
            "name": entry.request.name,
            "digest": entry.request.digest(),
            "kind": entry.request.target.kind,
            "target": dict(entry.request.target.describe()),
            "strength": entry.strength,
            "preset": presets_of(entry.changes),
            "excluded": list(entry.excluded),
            "changes": [stored(change) for change in entry.changes],
        }

    return {
        "expunge": __version__,
        "base": deployment.history.epochs[0].base,
        "model": {"file": MODEL, "digest": digest_of(deployment.model)},
        "record": None if record_now(loaded) is None else _stored(out, RECORD),
        "method": {
            "name": loaded.method.name,
            "parameters": fields_of(starting_point(loaded.method)),
            "settings": loaded.settings,
        },
        "aggregation": {"name": loaded.file.aggregation, "parameters": fields_of(deployment.rule)},
        "seed": loaded.file.seed,
        "device": loaded.file.device,
        "precision": loaded.file.precision,
        "deletion state": deletion_state(deployment.history),
        "epochs": [
            {"base": epoch.base, "requests": [served(entry) for entry in epoch.served]}
            for epoch in deployment.history.epochs
        ],
    }


def _stored(out: Path, name: str) -> dict[str, str]:
    """A file and what it holds."""
    return {"file": name, "sha256": hashlib.sha256((out / name).read_bytes()).hexdigest()}


def _served(history: History) -> list[Served]:
    return [entry for epoch in history.epochs for entry in epoch.served]
