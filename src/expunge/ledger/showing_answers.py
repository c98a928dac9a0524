"""Showing answers: what two versions of a model say about the rows of a request, in words.

This shows the forgotten: whoever calls it decides who may see it, and puts down who did.

Each family answers in its own way: a classifier and a dual encoder with a class or concept and its
probability, a regressor with a number, a language model with the text that it is most likely to go
on with.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from expunge.data.encoding import answer_tokens, prompt_tokens
from expunge.data.samples import Batch, Samples
from expunge.errors import ConflictError, ExpungeError, UnknownError
from expunge.families.abilities import Family, HasAnswers, HasErrors, HasLogits
from expunge.families.language import IGNORED
from expunge.families.sampling import end_of, likely_answers
from expunge.ledger.labels import label_texts
from expunge.ledger.material import Material
from expunge.ledger.opening import Ledger
from expunge.ledger.rows import Record, rows
from expunge.ledger.standing import Standing
from expunge.ledger.steps import read_history, request_row, version_of
from expunge.ledger.tables import RequestState
from expunge.models.checkpoint import Checkpoint
from expunge.models.modes import evaluating
from expunge.run import on_device
from expunge.signals.ask import answers_of, errors_of, logits_of

MOST = 200
"""Rows that are shown at most."""
LONGEST = 64
"""Tokens of an answer that are shown at most."""


@dataclass(frozen=True)
class Said:
    """What a version answers.

    Args:
        text: the class, concept, number or text.
        probability: of that answer; None of numbers and texts.
        right: of the true answer: its probability; of a text, that of one of its tokens (geometric
            mean). None of numbers.
    """

    text: str
    probability: float | None
    right: float | None


@dataclass(frozen=True)
class Answered:
    """One row: its id, what was asked where that is a text, both answers, and the true one."""

    row: str
    asked: str | None
    before: Said
    after: Said
    truth: str


@dataclass(frozen=True)
class Shown:
    """Answers of two versions.

    Args:
        request: id.
        before: number of the version that answers ``before``.
        after: of the version that answers ``after``.
        rows: those that are shown, in the order of the training table.
        more: rows of the request that are not shown.
        gone: rows of the request that are in the training table no more.
    """

    request: str
    before: int
    after: int
    rows: tuple[Answered, ...]
    more: int
    gone: int

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)


def answers(
    ledger: Ledger,
    standing: Standing,
    request: str,
    limit: int = 20,
    before: int | None = None,
    after: int | None = None,
) -> Shown:
    """What two versions answer on the training rows that a request named.

    Args:
        ledger: where.
        standing: the model that the request is for.
        request: its id.
        limit: rows that are shown.
        before: number of a version; that before the request was first answered by default.
        after: number of a version; the current one by default.

    Raises:
        UnknownError: there is no such request for this model, or no such version.
        ConflictError: it has no rows: it was not answered yet, named none, was sealed, or its rows
            are in the training table no more; or a version was destroyed by a seal.
        ExpungeError: the limit is none, or answers of this family cannot be put into words.
    """
    if not 1 <= limit <= MOST:
        raise ExpungeError(f"The limit {limit} was given; 1 to {MOST} is expected.")
    with ledger.database.reading() as connection:
        row = request_row(connection, request)
        if row["model"] != standing.row["id"]:
            raise UnknownError(
                f"The request {request} is for another model than {standing.row['name']!r}."
            )
        versions = rows(connection, "versions", model=row["model"])
    _check(ledger, row)
    numbers = _versions(ledger, standing, request, versions, before, after)
    material = standing.material
    asked = standing.requests([request])[request]
    found = asked.target.rows(material.train_table)
    if not len(found):
        raise ConflictError(
            f"The rows of the request {request} are in the training table no more; there is "
            "nothing to ask the versions about."
        )
    shown = material.train.select(found[:limit])
    texts = _texts(material, shown)
    with standing.lock:
        said = [
            _said(standing, _module(ledger, standing, versions, number), shown)
            for number in numbers
        ]
    return Shown(
        request,
        *numbers,
        tuple(
            Answered(name, asks, old, new, truth)
            for name, (asks, truth), old, new in zip(shown.ids, texts, *said, strict=True)
        ),
        len(found) - len(shown),
        max(0, (row["row_count"] or 0) - len(found)),
    )


def _check(ledger: Ledger, row: Record) -> None:
    """Refuse a request that has no rows, or has them no more.

    Raises:
        ConflictError: it has none.
    """
    name, state = row["id"], row["state"]
    if row["sealed"]:
        raise ConflictError(
            f"The request {name} is sealed: what it named was destroyed, and no version can be "
            "asked about it any more. Its figures are in the history."
        )
    if row["reason"] is not None and state == RequestState.ANSWERED.value:
        raise ConflictError(
            f"Nothing was done for the request {name} ({row['reason']}), so no version differs by "
            "it."
        )
    if row["rows"] is None:
        raise ConflictError(
            f"The request {name} is {state} and its rows were not looked for; ask when it is "
            "answered."
        )
    if _destroyed(ledger, [row["rows"]]):
        raise ConflictError(
            f"What the request {name} named was destroyed when the history was sealed; no version "
            "can be asked about it."
        )


def _versions(
    ledger: Ledger,
    standing: Standing,
    request: str,
    versions: Sequence[Record],
    before: int | None,
    after: int | None,
) -> tuple[int, int]:
    """The two versions that are asked.

    Raises:
        UnknownError: there is no such version.
        ConflictError: no version answers the request, and none was named.
    """
    known = sorted(v["number"] for v in versions)
    for given in (before, after):
        if given is not None and given not in known:
            raise UnknownError(
                f"The model {standing.row['name']!r} has no version {given}; its versions are 0 to "
                f"{known[-1]}."
            )
    if before is None:
        before = _first(ledger, request, versions) - 1
        if before < 0:
            raise ConflictError(
                f"No version answers the request {request} yet; ask when it is published, or name "
                "two versions."
            )
    return before, version_of(ledger, standing.row)["number"] if after is None else after


def _first(ledger: Ledger, request: str, versions: Sequence[Record]) -> int:
    """The first version that was published for a request; 0 where none was."""
    with ledger.database.reading() as connection:
        runs = [
            row["id"]
            for row in rows(connection, "runs", id=[v["run"] for v in versions if v["run"]])
            if request in row["requests"]
        ]
    return min((v["number"] for v in versions if v["run"] in runs), default=0)


def _module(
    ledger: Ledger, standing: Standing, versions: Sequence[Record], number: int
) -> nn.Module:
    """A version with its guards, as it is served.

    Raises:
        ConflictError: it was destroyed by a seal.
    """
    [version] = [v for v in versions if v["number"] == number]
    lost = _destroyed(ledger, [version["history"]])
    if not lost:
        history = read_history(ledger, version["history"])
        changes = [c.address for a in history.current.answers for c in a.changes]
        lost = _destroyed(ledger, [history.current.address, *changes])
    if lost:
        raise ConflictError(
            f"Version {number} of {standing.row['name']!r} was destroyed when the history was "
            "sealed; nothing brings it back. Name another version."
        )
    return standing.deployment(history).model


def _destroyed(ledger: Ledger, addresses: Sequence[str]) -> bool:
    with ledger.database.reading() as connection:
        found = rows(connection, "objects", address=list(addresses))
    return len(found) < len(set(addresses)) or any(row["destroyed"] for row in found)


def _said(standing: Standing, model: nn.Module, shown: Samples) -> list[Said]:
    """What a module answers on rows, in the words of its family.

    Raises:
        ExpungeError: its answers cannot be put into words.
    """
    material = standing.material
    family, run = material.family, material.run()
    if isinstance(family, HasLogits):
        logits, labels = logits_of(family, model, shown, run)
        return _classes(material, logits.softmax(1), labels)
    if isinstance(family, HasAnswers):
        losses, _ = answers_of(family, model, shown, run)
        right = (-losses.means()).exp().tolist()
        texts = _generated(material, model, shown)
        return [Said(text, None, share) for text, share in zip(texts, right, strict=True)]
    if isinstance(family, HasErrors):
        return _numbers(family, errors_of(family, model, shown, run), _targets(shown))
    raise ExpungeError(
        f"The family {family.name!r} has no classes, numbers or texts to answer with, so that "
        "there is nothing to show."
    )


def _classes(material: Material, shares: Tensor, labels: Tensor) -> list[Said]:
    texts = label_texts(material)
    best = shares.argmax(1)
    right = shares.gather(1, labels.unsqueeze(1)).squeeze(1)
    return [
        Said(texts.get(str(label), str(label)), top, true)
        for label, top, true in zip(
            best.tolist(), shares.amax(1).tolist(), right.tolist(), strict=True
        )
    ]


def _texts(material: Material, shown: Samples) -> list[tuple[str | None, str]]:
    """What each row asks, where that is a text, and its true answer."""
    batch = shown.batch(torch.arange(len(shown)), shown.fields & {"label", "labels", "target"})
    if isinstance(material.family, HasLogits):
        texts = label_texts(material)
        return [(None, texts.get(str(v), str(v))) for v in batch["label"].tolist()]
    if isinstance(material.family, HasAnswers):
        lines, checkpoint = _lines(shown), _written(material)
        asked = checkpoint.written(prompt_tokens(lines["input_ids"], lines["labels"]))
        return list(zip(asked, checkpoint.written(answer_tokens(lines["labels"])), strict=True))
    word = " deviations from the mean" if _scaled(material.family) else ""
    return [(None, f"{_in_figures(row)}{word}") for row in _targets(shown).tolist()]


def _lines(shown: Samples) -> Batch:
    """Prompts and answers; a text without a prompt is asked to go on from its first half."""
    batch = shown.batch(torch.arange(len(shown)), {"input_ids", "labels"})
    labels = batch["labels"].clone()
    for row in (labels[:, 0] != IGNORED).nonzero().flatten().tolist():
        length = int((labels[row] != IGNORED).sum())
        labels[row, : max(1, length // 2)] = IGNORED
    return {**batch, "labels": labels}


def _generated(material: Material, model: nn.Module, shown: Samples) -> list[str]:
    family, run, lines = material.family, material.run(), _lines(shown)
    assert isinstance(family, HasAnswers)
    checkpoint = _written(material)
    longest = max(map(len, answer_tokens(lines["labels"])))
    everything = material.train.batch(torch.arange(min(1000, len(material.train))), {"labels"})
    end = end_of(model, everything["labels"])
    with evaluating(on_device(model, run)) as asked, torch.inference_mode(), run.autocast():
        batch = {name: tensor.to(run.device) for name, tensor in lines.items()}
        found = likely_answers(family, asked, batch, min(LONGEST, longest + 8), end)
    return checkpoint.written(found)


def _written(material: Material) -> Checkpoint:
    if not isinstance(material.checkpoint, Checkpoint):
        raise ExpungeError(
            "The answers of this model are tokens, and it was registered without the folder of a "
            "tokenizer, so that they cannot be written as text; register it with "
            "`model.checkpoint`."
        )
    return material.checkpoint


def _targets(shown: Samples) -> Tensor:
    targets = shown.batch(torch.arange(len(shown)), {"target"})["target"].float()
    return targets if targets.dim() == 2 else targets.unsqueeze(1)


def _scaled(family: Family) -> bool:
    """Whether targets were scaled, so that only distances are known in the user's unit."""
    return bool(getattr(family, "units", ()))


def _numbers(family: Family, errors: Tensor, targets: Tensor) -> list[Said]:
    if _scaled(family):
        return [Said(f"off by {_in_figures(row)}", None, None) for row in errors.tolist()]
    return [Said(_in_figures(row), None, None) for row in (targets + errors).tolist()]


def _in_figures(row: Sequence[float]) -> str:
    return ", ".join(f"{value:.4g}" for value in row)
