"""Exporting: the current version as a plain folder that any program reads, with a model card.

Written twice, the folder holds the same bytes: nothing in it depends on when or where it was made.
"""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from expunge import __version__
from expunge.changes.deletion import DeletionState
from expunge.changes.weights import stored_tensors
from expunge.errors import ExpungeError
from expunge.ledger.certificate import Removal, verified
from expunge.ledger.opening import Ledger
from expunge.ledger.publishing import not_covered
from expunge.ledger.rows import Record
from expunge.ledger.serving import built, version_row
from expunge.ledger.standing import Standing
from expunge.ledger.steps import read_figures, read_history
from expunge.storage import write_bytes, write_tensors

CARD, CERTIFICATE, WEIGHTS = "README.md", "certificate.json", "model.safetensors"

MEANING = {
    DeletionState.SUPPRESSED: "A guard acts on the answers, or a redaction on what is served; the "
    "weights still hold what was to be forgotten.",
    DeletionState.EDITED: "The weights were edited. Whoever runs the ledger can still restore what "
    "was forgotten.",
    DeletionState.SEALED: "The weights were edited, and the base and the changes were destroyed.",
    DeletionState.RETRAINED: "The weights come from a training without the forgotten rows.",
    DeletionState.EXACT: "The weights are proven to be those of a training without them, as far "
    "and as nearly as is certified.",
}


def export(ledger: Ledger, model: str, out: Path) -> list[Path]:
    """Write the current version of a model: a Hugging Face folder where it came from one, else its
    weights as safetensors; beside it a model card and the certificate.

    Args:
        ledger: where the model is registered.
        model: its name.
        out: a folder that is empty or absent, or that holds an earlier export of the same version.

    Returns:
        What was written, in order.

    Raises:
        ExpungeError: the version is only suppressed (a plain folder carries no guard), or the
            folder holds something else.
    """
    row, version = version_row(ledger, model)
    if version["deletion_state"] == DeletionState.SUPPRESSED.value:
        raise ExpungeError(
            f"Version {version['number']} of {model!r} is suppressed: without its guards and "
            "redactions, which a plain folder cannot carry, what is to be forgotten would be "
            "answered. Export when the weights are published, or serve it from the ledger."
        )
    certificate, out = ledger.read(version["certificate"]), out.resolve()
    _check_folder(out, certificate)
    made = built(ledger, model, version["number"], guards=False)
    material = Standing.of(ledger, row).material
    with _whole(out) as folder:
        if material.checkpoint is not None:
            material.checkpoint.save(made.model, folder)
        else:
            facts = {"digest": made.digest, "model": model, "version": made.number}
            write_tensors(folder / WEIGHTS, stored_tensors(made.model), facts)
        write_bytes(folder / CERTIFICATE, certificate)
        write_bytes(folder / CARD, card(ledger, row, version).encode())
    return sorted(path for path in out.rglob("*") if path.is_file())


@contextmanager
def _whole(out: Path) -> Iterator[Path]:
    """A folder beside another that takes its place when all of it is written."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".partial-", dir=out.parent) as partial:
            made = Path(partial) / "made"
            yield made
            if out.exists():
                _check_own(out, made)
                shutil.rmtree(out)
            made.rename(out)
    except OSError as error:
        raise ExpungeError(
            f"The folder {out} cannot be written ({error.strerror}); give one that can be."
        ) from None


def _check_own(out: Path, made: Path) -> None:
    """Refuse to replace a folder with anything in it that an export does not write."""
    written = {path.relative_to(made) for path in made.rglob("*")}
    others = sorted({path.relative_to(out) for path in out.rglob("*")} - written)
    if others:
        raise ExpungeError(
            f"The folder {out} holds {str(others[0])!r}, which no export wrote; give an empty one."
        )


def _check_folder(out: Path, certificate: bytes) -> None:
    if not out.exists():
        return
    if not out.is_dir():
        raise ExpungeError(f"{out} is a file; give a folder that is empty or absent.")
    own = out / CERTIFICATE
    if any(out.iterdir()) and not (own.exists() and own.read_bytes() == certificate):
        raise ExpungeError(
            f"The folder {out} is not empty and holds something else than this version; give an "
            "empty one."
        )


def card(ledger: Ledger, row: Record, version: Record) -> str:
    """The model card of a version: what was removed by kind and number, without a name."""
    figures = read_figures(ledger, version)
    state, past = version["deletion_state"], read_history(ledger, version["history"])
    removal = Removal.from_json(
        verified(ledger.read(version["certificate"]), ledger.keys.public)["predicate"]
    )
    known = None if state is None else DeletionState(state)
    proven = removal.certified
    sentences = not_covered(known, bool(past.requests()), proven, removal.records_before)
    kinds: dict[str, list[int]] = {}
    for answered in figures.requests.values():
        kinds.setdefault(answered.kind, []).append(answered.rows)
    removed = [
        f"| {kind} | {len(counts)} | {sum(counts)} |" for kind, counts in sorted(kinds.items())
    ]
    told: list[str] = [
        "---",
        "tags: [machine-unlearning]",
        "---",
        f"# {row['name']}, version {version['number']}",
        "",
        f"Weights {version['weights_digest']}.",
        "",
        "## What was removed",
        "",
        *(
            ["| kind | requests | training rows |", "| --- | ---: | ---: |", *removed]
            if removed
            else ["Nothing."]
        ),
        "",
        f"Deletion state: **{state or 'nothing was removed'}**."
        + ("" if known is None else f" {MEANING[known]}")
        + ("" if proven is None else f" Certified: {proven.told()}."),
        "",
        "## Figures",
        "",
        f"| {figures.metric} | registered | this version |",
        "| --- | ---: | ---: |",
        f"| held-out rows of nobody's request | {figures.original:.4f} | {figures.retained:.4f} |",
    ]
    for i, own in enumerate(figures.requests.values(), 1):
        told.append(
            f"| forgotten rows of request {i} ({own.kind}) | {_shown(own.before)} | "
            f"{_shown(own.after)} |"
        )
    told += [
        "",
        "A model that never saw the forgotten rows does not answer all of them wrongly: the level "
        "to reach is in the certificate.",
        "",
        "## What this does not cover",
        "",
        *(f"- {sentence}" for sentence in sentences),
        "",
        f"`{CERTIFICATE}` beside this file is signed; `expunge certificate verify {CERTIFICATE} "
        f"--key signing.pub` checks it without the ledger. Made with expunge {__version__}.",
        "",
    ]
    return "\n".join(told)


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
