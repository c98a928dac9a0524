"""Signals: what models answered on samples, as one matrix [model, sample, query].

Models are asked once; accuracies, intervals, membership attacks and persistence are pure functions
of the matrix. The margin is the log-odds of the true class, the logit-scaled confidence of
Carlini, Chien, Nasr, Song, Terzis, Tramèr (2022). Membership Inference Attacks From First
Principles.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from expunge.errors import ExpungeError
from expunge.families.abilities import UnitLosses
from expunge.families.from_logits import log_odds
from expunge.families.language import answer_log_odds

QUERIES = ("correct", "top-5", "rank", "margin", "loss")
"""The queries that :meth:`Signals.from_predictions` computes, in their order."""

ERROR_QUERIES = ("absolute error", "squared error")
"""The queries that :meth:`Signals.from_errors` computes, in their order."""


DENOISING_QUERIES = ("denoising loss",)
"""The one query of :meth:`Signals.from_denoising`."""


ANSWER_QUERIES = ("correct", "tokens correct", "margin", "loss", "total loss")
"""The queries that :meth:`Signals.from_answers` computes, in their order."""


@dataclass(frozen=True, eq=False)
class Signals:
    """What each model answered on each sample.

    Args:
        values: float32 (models, samples, queries), without NaN.
        models: names along the first axis, each once.
        samples: stable ids along the second axis, each once.
        queries: names along the third axis, such as ``margin`` and ``correct``.
        subjects: the subject (person, concept, class) of each sample; samples of one subject are
            not independent.

    Raises:
        ExpungeError: there is no sample, a name is repeated, lengths differ, or a value is NaN.
    """

    values: Tensor
    models: tuple[str, ...]
    samples: tuple[str, ...]
    queries: tuple[str, ...]
    subjects: tuple[str, ...]

    def __post_init__(self) -> None:
        expected = (len(self.models), len(self.samples), len(self.queries))
        if tuple(self.values.shape) != expected or self.values.dtype != torch.float32:
            raise ExpungeError(
                f"Signals got {self.values.dtype} values of shape {tuple(self.values.shape)} for "
                f"{expected[0]} models, {expected[1]} samples and {expected[2]} queries; float32 "
                f"of shape {expected} is expected. Check the names against the values."
            )
        if not self.samples or not self.models:
            raise ExpungeError(
                f"Signals got {len(self.models)} models and {len(self.samples)} samples; at least "
                "one of each is expected. Check which samples were selected."
            )
        if len(self.subjects) != len(self.samples):
            raise ExpungeError(
                f"Signals got {len(self.subjects)} subjects for {len(self.samples)} samples; "
                "one per sample is expected."
            )
        for axis, names in (
            ("model", self.models),
            ("sample", self.samples),
            ("query", self.queries),
        ):
            if repeated := first_repeated(names):
                raise ExpungeError(
                    f"Signals got the {axis} {repeated!r} twice; each name is expected once. "
                    "Rename it, or drop the second."
                )
        if bool(self.values.isnan().any()):
            model, sample, query = (int(i) for i in self.values.isnan().nonzero()[0])
            raise ExpungeError(
                f"Signals got NaN for {self.queries[query]!r} of sample {self.samples[sample]!r} "
                f"under model {self.models[model]!r}; numbers are expected. The model has probably "
                "diverged: lower the learning rate or the strength."
            )

    @classmethod
    def from_predictions(
        cls,
        logits: Tensor,
        labels: Tensor,
        *,
        model: str = "model",
        samples: Sequence[str] | None = None,
        subjects: Sequence[str] | None = None,
    ) -> Self:
        """The signals of one model from its class scores.

        ``rank`` counts the classes placed before the true one (equal scores: the lower class index
        comes first, as in argmax), ``correct`` is rank 0, ``top-5`` is rank below 5, ``margin`` is
        ``z_y - logsumexp(z_c, c != y)`` and ``loss`` the cross-entropy ``log(1 + exp(-margin))``
        in nats.

        Args:
            logits: (n, C) scores, C at least 2. A class that the model cannot give may be -inf.
            labels: (n,) integers in 0 ... C-1.
            model: name of the model.
            samples: n stable ids; by default the row numbers.
            subjects: n subjects; by default the labels.

        Raises:
            ExpungeError: no rows, shapes or labels that do not fit, NaN or +inf among the logits.
        """
        check_predictions(logits, labels)
        logits, labels = logits.detach().float().cpu(), labels.detach().long().cpu()
        own = labels.unsqueeze(1)
        true = logits.gather(1, own)
        earlier = torch.arange(logits.shape[1]) < own
        rank = ((logits > true) | ((logits == true) & earlier)).sum(1)
        margin = log_odds(logits, labels)
        columns = (rank == 0, rank < 5, rank, margin, -logsigmoid(margin))
        names = tuple(str(i) for i in range(len(labels))) if samples is None else tuple(samples)
        return cls(
            values=torch.stack([c.float() for c in columns], dim=-1).unsqueeze(0),
            models=(model,),
            samples=names,
            queries=QUERIES,
            subjects=tuple(str(int(y)) for y in labels) if subjects is None else tuple(subjects),
        )

    @classmethod
    def from_errors(
        cls,
        errors: Tensor,
        *,
        model: str = "model",
        samples: Sequence[str] | None = None,
        subjects: Sequence[str] | None = None,
    ) -> Self:
        """The signals of one model that answers with numbers, from answer minus target.

        ``absolute error`` and ``squared error`` of a sample are means over its D numbers.

        Args:
            errors: (n, D) in the target's unit.
            model: name of the model.
            samples: n stable ids; by default the row numbers.
            subjects: n subjects; by default the ids.

        Raises:
            ExpungeError: no rows, another shape, or an error that is not finite.
        """
        if errors.dim() != 2 or 0 in errors.shape:
            raise ExpungeError(
                f"Signals got errors of shape {tuple(errors.shape)}; (n, D) with at least one "
                "sample and one number is expected. Check which samples were selected."
            )
        found = errors.detach().float().cpu()
        if not bool(found.isfinite().all()):
            raise ExpungeError(
                "Signals got NaN or infinite errors; finite numbers are expected. The model has "
                "probably diverged: lower the learning rate or the strength."
            )
        columns = (found.abs().mean(1), found.square().mean(1))
        names = tuple(str(i) for i in range(len(found))) if samples is None else tuple(samples)
        return cls(
            values=torch.stack(columns, dim=-1).unsqueeze(0),
            models=(model,),
            samples=names,
            queries=ERROR_QUERIES,
            subjects=names if subjects is None else tuple(subjects),
        )

    @classmethod
    def from_denoising(
        cls,
        losses: Tensor,
        *,
        model: str = "model",
        samples: Sequence[str] | None = None,
        subjects: Sequence[str] | None = None,
    ) -> Self:
        """The signals of one denoiser from the loss of every row.

        Args:
            losses: (n,) mean squared error of the predicted noise.
            model: name of the model.
            samples: n stable ids; by default the row numbers.
            subjects: n subjects; by default the ids.

        Raises:
            ExpungeError: no rows, another shape, or a loss that is not finite.
        """
        if losses.dim() != 1 or len(losses) == 0:
            raise ExpungeError(
                f"Signals got denoising losses of shape {tuple(losses.shape)}; (n,) with at least "
                "one sample is expected. Check which samples were selected."
            )
        found = losses.detach().float().cpu()
        if not bool(found.isfinite().all()):
            raise ExpungeError(
                "Signals got NaN or infinite denoising losses; finite numbers are expected. The "
                "model has probably diverged: lower the learning rate or the strength."
            )
        names = tuple(str(i) for i in range(len(found))) if samples is None else tuple(samples)
        return cls(
            values=found.view(1, -1, 1),
            models=(model,),
            samples=names,
            queries=DENOISING_QUERIES,
            subjects=names if subjects is None else tuple(subjects),
        )

    @classmethod
    def from_answers(
        cls,
        losses: UnitLosses,
        hits: UnitLosses,
        *,
        model: str = "model",
        samples: Sequence[str] | None = None,
        subjects: Sequence[str] | None = None,
    ) -> Self:
        """The signals of one language model from the tokens of its answers.

        ``tokens correct`` is the share of the answer tokens that are the most likely ones given the
        tokens before them, and ``correct`` that all of them are: greedy decoding then gives exactly
        this answer. ``loss`` is the mean and ``total loss`` the sum of minus the log-probability in
        nats, and ``margin`` the log-odds of the probability per token ``exp(-loss)``.

        Args:
            losses: (n, U) minus the log-probability of each token of the answers.
            hits: (n, U) 1 where the token is the most likely one, else 0.
            model: name of the model.
            samples: n stable ids; by default the row numbers.
            subjects: n subjects; by default the ids.

        Raises:
            ExpungeError: there is no row, or a loss is not a number.
        """
        mean = losses.means().detach().float().cpu()
        share = hits.means().detach().float().cpu()
        total = losses.sums().detach().float().cpu()
        columns = (share == 1, share, answer_log_odds(-mean), mean, total)
        names = tuple(str(i) for i in range(len(mean))) if samples is None else tuple(samples)
        return cls(
            values=torch.stack([c.float() for c in columns], dim=-1).unsqueeze(0),
            models=(model,),
            samples=names,
            queries=ANSWER_QUERIES,
            subjects=names if subjects is None else tuple(subjects),
        )

    @classmethod
    def stacked(cls, parts: Iterable["Signals"]) -> Self:
        """Several models on the same samples, one after another along the first axis.

        Raises:
            ExpungeError: the parts differ in samples, subjects or queries, or there is none.
        """
        parts = list(parts)
        if not parts:
            raise ExpungeError("No signals were given to stack; give at least one.")
        first = parts[0]
        for part in parts[1:]:
            for axis in ("samples", "subjects", "queries"):
                if getattr(part, axis) != getattr(first, axis):
                    raise ExpungeError(
                        f"The signals of {part.models[0]!r} and {first.models[0]!r} differ in "
                        f"their {axis}; the same ones in the same order are expected. Ask both "
                        "models for the same samples."
                    )
        return cls(
            values=torch.cat([part.values for part in parts]),
            models=tuple(name for part in parts for name in part.models),
            samples=first.samples,
            queries=first.queries,
            subjects=first.subjects,
        )

    def query(self, name: str) -> Tensor:
        """The values of one query, (models, samples) float32.

        Raises:
            ExpungeError: there is no such query.
        """
        return self.values[:, :, positions_of("query", self.queries, [name])[0]]

    def of_models(self, names: Iterable[str]) -> Self:
        """The rows of these models, in the given order.

        Raises:
            ExpungeError: a model is unknown, or none is given.
        """
        at = positions_of("model", self.models, names)
        return replace(self, values=self.values[at], models=tuple(self.models[i] for i in at))

    def of_samples(self, ids: Iterable[str]) -> Self:
        """These samples, in the given order.

        Raises:
            ExpungeError: an id is unknown, or none is given.
        """
        return self._at(positions_of("sample", self.samples, ids))

    def of_subjects(self, names: Iterable[str]) -> Self:
        """The samples of these subjects, in their present order.

        Raises:
            ExpungeError: a subject has no sample, or none is given.
        """
        wanted = set(names)
        if unknown := sorted(wanted.difference(self.subjects)):
            raise _unknown("subject", unknown[0], tuple(dict.fromkeys(self.subjects)))
        return self._at([i for i, subject in enumerate(self.subjects) if subject in wanted])

    def without_subjects(self, names: Iterable[str]) -> Self:
        """The samples of every other subject: what is retained when these are forgotten.

        Raises:
            ExpungeError: nothing would be left.
        """
        unwanted = set(names)
        return self._at([i for i, subject in enumerate(self.subjects) if subject not in unwanted])

    def _at(self, positions: list[int]) -> Self:
        return replace(
            self,
            values=self.values[:, positions],
            samples=tuple(self.samples[i] for i in positions),
            subjects=tuple(self.subjects[i] for i in positions),
        )


def first_repeated(names: Iterable[str]) -> str | None:
    """The first name that occurs a second time."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None


def positions_of(axis: str, present: tuple[str, ...], wanted: Iterable[str]) -> list[int]:
    """Where the wanted names stand on an axis, in their order.

    Raises:
        ExpungeError: a name is not on the axis.
    """
    where = {name: i for i, name in enumerate(present)}
    positions = []
    for name in wanted:
        if name not in where:
            raise _unknown(axis, name, present)
        positions.append(where[name])
    return positions


def _unknown(axis: str, name: str, present: tuple[str, ...]) -> ExpungeError:
    shown = ", ".join(present[:5]) + (" ..." if len(present) > 5 else "")
    return ExpungeError(
        f"The signals have no {axis} {name!r}; they have {shown}. Name one of these."
    )


def check_predictions(logits: Tensor, labels: Tensor) -> None:
    """Refuse logits and labels that no signal can be computed from.

    Raises:
        ExpungeError: not (n, C) and (n,), no row, labels outside the columns, NaN or +inf.
    """
    if logits.dim() != 2 or labels.shape != logits.shape[:1] or logits.shape[1] < 2:
        raise ExpungeError(
            f"Signals got logits of shape {tuple(logits.shape)} and labels of shape "
            f"{tuple(labels.shape)}; (n, C) with at least 2 classes and (n,) are expected."
        )
    if len(labels) == 0:
        raise ExpungeError(
            "Signals got no sample; at least one is expected. Check which samples were selected."
        )
    if labels.is_floating_point() or int(labels.min()) < 0 or int(labels.max()) >= logits.shape[1]:
        raise ExpungeError(
            f"Signals got {labels.dtype} labels from {labels.min().item()} to "
            f"{labels.max().item()}; integers in 0 ... {logits.shape[1] - 1} are expected. "
            "Number the labels as the columns of the logits."
        )
    if bool((logits.isnan() | logits.isposinf()).any()):
        raise ExpungeError(
            "Signals got NaN or +inf among the logits; finite scores are expected. The model has "
            "probably diverged: lower the learning rate or the strength."
        )
