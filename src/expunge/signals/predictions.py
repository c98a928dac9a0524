"""Predictions: the whole answer of models with classes, as one array [model, sample, class].

:class:`~expunge.signals.matrix.Signals` keep a few numbers a sample; entropies, distances between
distributions and attacks on the probability vector need all of them. A model is asked once
(:func:`expunge.signals.ask.predict`), and :meth:`Predictions.signals` gives its signals.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from expunge.errors import ExpungeError
from expunge.signals.matrix import Signals, check_predictions, first_repeated, positions_of


@dataclass(frozen=True, eq=False)
class Predictions:
    """What each model scored for each class of each sample.

    Args:
        logits: float32 (models, samples, C), C at least 2; a class that a model cannot give may be
            -inf.
        labels: int64 (samples,) in 0 ... C-1.
        models: names along the first axis, each once.
        samples: stable ids along the second axis, each once.
        subjects: the subject of each sample.

    Raises:
        ExpungeError: there is no model or sample, lengths differ, a name is repeated, a label is
            not a class, or a sample has NaN, +inf or nothing but -inf.
    """

    logits: Tensor
    labels: Tensor
    models: tuple[str, ...]
    samples: tuple[str, ...]
    subjects: tuple[str, ...]

    def __post_init__(self) -> None:
        names = (len(self.models), len(self.samples))
        if self.logits.dim() != 3 or tuple(self.logits.shape[:2]) != names or not self.models:
            raise ExpungeError(
                f"Predictions got logits of shape {tuple(self.logits.shape)} for {names[0]} models "
                f"and {names[1]} samples; (models, samples, classes) with at least one model is "
                "expected. Check the names against the logits."
            )
        for logits in self.logits:
            check_predictions(logits, self.labels)
        if len(self.subjects) != len(self.samples):
            raise ExpungeError(
                f"Predictions got {len(self.subjects)} subjects for {len(self.samples)} samples; "
                "one per sample is expected."
            )
        for axis, found in (("model", self.models), ("sample", self.samples)):
            if repeated := first_repeated(found):
                raise ExpungeError(
                    f"Predictions got the {axis} {repeated!r} twice; each name is expected once. "
                    "Rename it, or drop the second."
                )
        if bool(self.logits.isneginf().all(2).any()):
            raise ExpungeError(
                "Predictions got a sample with -inf for every class; a finite score for at least "
                "one class is expected. Check how classes are masked."
            )

    @classmethod
    def of(
        cls,
        logits: Tensor,
        labels: Tensor,
        *,
        model: str = "model",
        samples: Sequence[str] | None = None,
        subjects: Sequence[str] | None = None,
    ) -> Self:
        """The predictions of one model from logits (n, C) and labels (n,).

        The ids are the row numbers by default, the subjects the labels.

        Raises:
            ExpungeError: as for the class.
        """
        check_predictions(logits, labels)
        names = tuple(str(i) for i in range(len(labels))) if samples is None else tuple(samples)
        own = tuple(str(int(y)) for y in labels) if subjects is None else tuple(subjects)
        scores = logits.detach().float().cpu().unsqueeze(0)
        return cls(scores, labels.detach().cpu(), (model,), names, own)

    @classmethod
    def stacked(cls, parts: Iterable["Predictions"]) -> Self:
        """Several models on the same samples, one after another along the first axis.

        Raises:
            ExpungeError: there is no part, or the parts differ in samples, labels or classes.
        """
        parts = list(parts)
        if not parts:
            raise ExpungeError("No predictions were given to stack; give at least one.")
        for part in parts[1:]:
            check_same_samples(part, parts[0])
        first = parts[0]
        return cls(
            torch.cat([part.logits for part in parts]),
            first.labels,
            tuple(name for part in parts for name in part.models),
            first.samples,
            first.subjects,
        )

    def log_probabilities(self) -> Tensor:
        """Log of the softmax in nats, (models, samples, C) float64."""
        return self.logits.double().log_softmax(2)

    def probabilities(self) -> Tensor:
        """The softmax, (models, samples, C) float64."""
        return self.logits.double().softmax(2)

    def answers(self) -> Tensor:
        """The class that each model gives, (models, samples) int64; of equals the first."""
        return self.logits.argmax(2)

    def share_right(self) -> Tensor:
        """Share of the samples that are answered with their label, (models,) float64."""
        return (self.answers() == self.labels).double().mean(1)

    def signals(self) -> Signals:
        """The signals of these models on these samples."""
        return Signals.stacked(
            Signals.from_predictions(
                logits, self.labels, model=model, samples=self.samples, subjects=self.subjects
            )
            for logits, model in zip(self.logits, self.models, strict=True)
        )

    def of_models(self, names: Iterable[str]) -> Self:
        """The predictions of these models, in the given order.

        Raises:
            ExpungeError: a model is unknown, or none is given.
        """
        at = positions_of("model", self.models, names)
        return replace(self, logits=self.logits[at], models=tuple(self.models[i] for i in at))

    def of_samples(self, ids: Iterable[str]) -> Self:
        """These samples, in the given order.

        Raises:
            ExpungeError: an id is unknown, or none is given.
        """
        return self.at(positions_of("sample", self.samples, ids))

    def at(self, positions: Sequence[int] | Tensor) -> Self:
        """The samples at these positions (n,), in the given order.

        Raises:
            ExpungeError: no position is given.
        """
        rows = torch.as_tensor(positions, dtype=torch.int64).tolist()
        return replace(
            self,
            logits=self.logits[:, rows],
            labels=self.labels[rows],
            samples=tuple(self.samples[i] for i in rows),
            subjects=tuple(self.subjects[i] for i in rows),
        )


def check_same_samples(found: Predictions, other: Predictions) -> None:
    """Refuse to hold predictions against each other that are not of the same rows and classes.

    Raises:
        ExpungeError: samples, labels or the number of classes differ.
    """
    if found.logits.shape[2] != other.logits.shape[2]:
        raise ExpungeError(
            f"The predictions of {found.models[0]!r} have {found.logits.shape[2]} classes and "
            f"those of {other.models[0]!r} {other.logits.shape[2]}; the same classes are expected."
        )
    if found.samples != other.samples or not torch.equal(found.labels, other.labels):
        raise ExpungeError(
            f"The predictions of {found.models[0]!r} and {other.models[0]!r} differ in their "
            "samples; the same ones in the same order are expected. Ask both models for the same "
            "samples."
        )
