"""A removal: what was to be forgotten, from which model, and the rows that it is judged on."""

import hashlib
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor, nn

from expunge.data.duplicates.content import Searched
from expunge.data.samples import ROW, Joined, Samples, all_but, batches
from expunge.errors import ExpungeError
from expunge.families.abilities import Family, HasAnswers, HasLogits
from expunge.families.diffusion import LabelDiffusion
from expunge.recipe import Recipe
from expunge.run import Run
from expunge.signals import Metric, Predictions, Signals
from expunge.signals.ask import ask, metric_of, predict

Unlearner = Callable[[nn.Module, Samples, Tensor, Run], nn.Module]
"""The method under audit: from a model, all rows it was trained on, the positions (n,) of those to
forget, and a run, the model that forgot them. The adversarial level lets it answer many models."""

LEAST = 2
"""Rows of each kind: one row has no spread."""

CLIP = 100.0
"""Nats beyond which a margin counts as this: a guard may give a class minus infinity."""


@dataclass(frozen=True, eq=False)
class Unseen(Joined):
    """Held-out rows whose ids say that they are: tables that are numbered one by one have a row 0
    each."""

    @property
    def ids(self) -> Sequence[str]:
        """The id of each row."""
        return [f"held-out {name}" for name in super().ids]


@dataclass(frozen=True, eq=False)
class Removal:
    """What was to be forgotten, and everything that an audit may look at beside the model deployed.

    Args:
        name: of the request, or of several.
        before: the model before.
        family: what kind of model it is.
        forget: training rows that were to be forgotten, of all requests together.
        retain: the other training rows.
        held_out: rows that nobody trained on, of the same source; their ids are their own, and may
            be those of other training rows.
        run: device, and the seed of every draw.
        recipe: how the model was made; without one nothing can be retrained.
        named: positions (n,) of the held-out rows that the request names as well (a class, a
            person); by default those whose label no retained row has.
        searched: the training table, for near copies; ``forget_rows`` are positions (n,) in it.
        forget_rows: see ``searched``.
        compared: columns of ``searched`` that are compared; those of content by default.
        unseen: a table of held-out rows, which say how alike unrelated rows are.
        unlearner: the method, for the adversarial level.

    Raises:
        ExpungeError: fewer than two rows of one kind, a row is to be forgotten and retained, or
            a training row is held out as well.
    """

    name: str
    before: nn.Module
    family: Family
    forget: Samples
    retain: Samples
    held_out: Samples
    run: Run = field(default_factory=Run)
    recipe: Recipe | None = None
    named: Tensor | None = None
    searched: Searched | None = None
    forget_rows: Tensor | None = None
    compared: tuple[str, ...] = ()
    unseen: Searched | None = None
    unlearner: Unlearner | None = None

    def __post_init__(self) -> None:
        sets = {"forget": self.forget, "retain": self.retain, "held-out": self.held_out}
        for kind, rows in sets.items():
            if len(rows) < LEAST:
                raise ExpungeError(
                    f"The audit of {self.name!r} got {len(rows)} {kind} rows; at least {LEAST} are "
                    "expected. Give more rows, or put several requests into one audit."
                )
        if both := sorted(set(self.forget.ids).intersection(self.retain.ids)):
            raise ExpungeError(
                f"The row {both[0]!r} is in the forget set and in the retain set of the audit of "
                f"{self.name!r}; each training row is expected in one. Check the requests."
            )
        self._check_leaks()

    def _check_leaks(self) -> None:
        """Ids count within a table: a row that is held out is a training row where id and content
        agree."""
        train = Joined.of(self.forget, self.retain)
        again = set(train.ids).intersection(self.held_out.ids)
        known, held_out = (dict(contents(_of_ids(rows, again))) for rows in (train, self.held_out))
        if leaked := sorted(name for name in again if known[name] == held_out[name]):
            raise ExpungeError(
                f"The split leaks: {len(leaked)} of the {len(self.held_out)} held-out rows of the "
                f"audit of {self.name!r}, such as {leaked[0]!r}, are training rows, id and "
                "content; rows that nobody trained on are expected. Take them out of the test rows."
            )

    @cached_property
    def unseen_rows(self) -> Samples:
        """The held-out rows under names that no training row has."""
        return Unseen.of(self.held_out)

    @cached_property
    def repeated(self) -> tuple[str, ...]:
        """Ids of held-out rows that equal a training row in every field, under whatever id."""
        known = {content for _, content in contents(Joined.of(self.forget, self.retain))}
        return tuple(name for name, content in contents(self.held_out) if content in known)

    @property
    def metric(self) -> Metric:
        """What answers are scored with."""
        return metric_of(self.family)

    @property
    def has_classes(self) -> bool:
        """Whether the model answers with classes, each row with a label."""
        return isinstance(self.family, HasLogits)

    @property
    def labelled(self) -> bool:
        """Whether each row has a label: the right answer of a classifier, or what a denoiser is
        told."""
        return self.has_classes or isinstance(self.family, LabelDiffusion)

    @property
    def counts(self) -> bool:
        """Whether an answer is right or wrong: a class, or an exact answer."""
        return self.metric.query == "correct"

    @property
    def unseen_alike(self) -> bool:
        """Whether held-out rows say how forgotten rows would be answered had nobody trained on
        them: not where they ask in other words for what a language model was taught."""
        return not isinstance(self.family, HasAnswers)

    @cached_property
    def labels(self) -> dict[str, Tensor]:
        """The label (n,) of every row by kind; empty where rows have none."""
        if not self.labelled:
            return {}
        sets = {"forget": self.forget, "retain": self.retain, "held-out": self.held_out}
        return {
            kind: rows.batch(torch.arange(len(rows)), ["label"])["label"]
            for kind, rows in sets.items()
        }

    @cached_property
    def whole_kind(self) -> bool:
        """Whether no retained row has a label of the forgotten ones, as when a class goes."""
        if not self.has_classes:
            return False
        return not bool(torch.isin(self.labels["forget"], self.labels["retain"]).any())

    @cached_property
    def alike(self) -> Tensor:
        """Positions (n,) of the held-out rows that carry a forgotten label: the non-members that
        forgotten rows are told from."""
        if not self.labelled:
            return torch.arange(len(self.held_out))
        return _positions(torch.isin(self.labels["held-out"], self.labels["forget"]))

    @cached_property
    def unseen_kind(self) -> Tensor:
        """Positions (n,) of the held-out rows that the request means, too."""
        if self.named is not None:
            return self.named
        if not self.labelled:
            return torch.empty(0, dtype=torch.int64)
        return _positions(~torch.isin(self.labels["held-out"], self.labels["retain"]))

    @cached_property
    def retained(self) -> Tensor:
        """Positions (n,) of all other held-out rows."""
        return all_but(len(self.held_out), self.unseen_kind)


@dataclass(frozen=True, eq=False)
class Answers:
    """What one model answers on the rows of a removal.

    Args:
        forget: signals of the forgotten rows, averaged over ``asks``.
        held_out: of the held-out rows, likewise, under the names of :attr:`Removal.unseen_rows`.
        once_forget: of the forgotten rows as a user gets them, asked once.
        once_held_out: of the held-out rows, asked once.
        asks: how often it was asked: once where it answers the same every time.
    """

    forget: Signals
    held_out: Signals
    once_forget: Signals
    once_held_out: Signals
    asks: int = 1


def answers_of(removal: Removal, model: nn.Module, asks: int, name: str = "model") -> Answers:
    """Ask a model, and ask it ``asks`` times where its answers vary.

    Averaged are log-probabilities, or errors: noise that was added to hide something goes away.

    Raises:
        ExpungeError: an answer is not finite, or the family can be asked for nothing.
    """
    found: dict[str, tuple[Signals, Signals, int]] = {}
    with removal.run.seeded(f"audit of {removal.name}"):
        for kind, rows in (("forget", removal.forget), ("held-out", removal.unseen_rows)):
            found[kind] = _asked(removal, model, rows, asks, name)
    (forget, once, times), (held_out, once_held_out, others) = found["forget"], found["held-out"]
    return Answers(forget, held_out, once, once_held_out, max(times, others))


def asked_often(
    removal: Removal, model: nn.Module, rows: Samples, asks: int, name: str = "model"
) -> Signals:
    """The signals of a model on any rows, averaged over ``asks`` where its answers vary."""
    with removal.run.seeded(f"audit of {removal.name}"):
        return _asked(removal, model, rows, asks, name)[0]


def _asked(
    removal: Removal, model: nn.Module, rows: Samples, asks: int, name: str
) -> tuple[Signals, Signals, int]:
    """Signals averaged over passes, those of the first, and how many there were."""
    first = ask(removal.family, model, rows, removal.run, name)
    again = ask(removal.family, model, rows, removal.run, name)
    if torch.equal(first.values, again.values):
        return first, first, 1
    if not removal.has_classes:
        more = [ask(removal.family, model, rows, removal.run, name) for _ in range(asks - 2)]
        passes = torch.stack([one.values for one in (first, again, *more)])
        mean = Signals(passes.mean(0), first.models, first.samples, first.queries, first.subjects)
        return mean, first, asks
    answers = [predict(removal.family, model, rows, removal.run, name) for _ in range(asks)]
    return averaged(answers).signals(), first, asks


def averaged(passes: list[Predictions]) -> Predictions:
    """One model's log-probabilities averaged over several passes, as logits.

    Not its probabilities: noise is added to logits, and a mean of probabilities is that of the few
    passes in which the noise was kind.
    """
    logs = torch.stack([one.log_probabilities()[0] for one in passes]).clamp(min=-CLIP)
    first = passes[0]
    return Predictions.of(
        logs.mean(0),
        first.labels,
        model=first.models[0],
        samples=first.samples,
        subjects=first.subjects,
    )


def margins_of(signals: Signals) -> Tensor:
    """What is larger for rows a model knows, (samples,) float64: the margin in nats, within
    :data:`CLIP`, or minus the squared error of a model without classes: of its numbers, or of the
    noise that it sees."""
    if "margin" in signals.queries:
        return signals.query("margin")[0].double().clamp(-CLIP, CLIP)
    error = "squared error" if "squared error" in signals.queries else "denoising loss"
    return -signals.query(error)[0].double()


def score_of(signals: Signals, metric: Metric) -> float:
    """Mean score of one model on these samples."""
    return float(signals.query(metric.query)[0].double().mean())


def contents(samples: Samples, but: Collection[str] = ()) -> Iterator[tuple[str, bytes]]:
    """Each row's id and the SHA-256 of its tensors, save the fields that are named."""
    fields = sorted(samples.fields - {ROW, *but})
    names = iter(samples.ids)
    for batch in batches(samples, 1024):
        parts = [batch[field].contiguous() for field in fields]
        for place in range(len(batch[ROW])):
            sha = hashlib.sha256()
            for part in parts:
                sha.update(repr((part.dtype, part.shape[1:])).encode())
                sha.update(part[place].numpy().tobytes())
            yield next(names), sha.digest()


def _of_ids(samples: Samples, ids: Collection[str]) -> Samples:
    """The rows with these ids."""
    places = [place for place, name in enumerate(samples.ids) if name in ids]
    return samples.select(torch.tensor(places, dtype=torch.int64))


def _positions(mask: Tensor) -> Tensor:
    return mask.nonzero().reshape(-1)
