"""The self-test of the audit: models of which it is known what must be said of them.

An audit that passes everything, or nothing, is worth nothing, and one that looks at accuracy alone
is fooled by a guard. On the scikit-learn digits, with models trained on the spot, the original must
fail, a retrained model must pass every question, and six kinds of model that only seem to have
forgotten must be found out. The rows and the references can be used for another tool's model:
``class_removed(seed).audit.ask(model)``.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from expunge.audit.audit import Audit, Audited
from expunge.audit.inquiry import Level
from expunge.audit.policy import QUESTIONS, Policy, Question
from expunge.audit.removal import Removal, Unlearner
from expunge.audit.verdict import Result
from expunge.changes.history import History
from expunge.changes.weights import digest_of
from expunge.data import digits, own
from expunge.data.duplicates.content import Searched
from expunge.data.samples import Samples, TensorSamples, all_but
from expunge.descent.optimisers import AdamW
from expunge.families.classifier import Classifier
from expunge.families.from_logits import other_labels
from expunge.learning.supervised.plain import Plain
from expunge.methods.gradient_difference import GradientDifference
from expunge.methods.protocol import unlearn
from expunge.models.mlp import digits_classifier
from expunge.problem import Problem
from expunge.recipe import Recipe, Role
from expunge.requests import Request, Rows
from expunge.run import Run

TRAINED = 1000
"""Of the 1,797 digits; the others are held out, so that either side has enough of each class."""

CLASSES = 10

FORGOTTEN = 8
"""The digit that goes."""

CANARIES, COPIES = 60, 3
"""Rows with wrong labels, which only learning by heart explains, and how often each is there."""

HIDDEN = 20.0
"""Logits by which a bias is lowered."""

DENIED = 12.0
"""Nats below the best class at which a guard puts the forgotten one: where oracles put it, too."""

NOISE = 20.0
"""Standard deviation of the noise, in nats: about three times the spread of the logits."""

CLASS_EPOCHS, CANARY_EPOCHS = 30, 60


class Refusing(nn.Module):
    """A guard that hides one class: the weights behind it are those of the original."""

    def __init__(self, guarded: nn.Module, label: int) -> None:
        super().__init__()
        self.guarded, self.label = guarded, label

    def forward(self, images: Tensor) -> Tensor:
        """Logits (n, classes) of which the hidden one is never the largest."""
        logits: Tensor = self.guarded(images).clone()
        logits[:, self.label] = float("-inf")
        logits[:, self.label] = logits.amax(1) - DENIED
        return logits


def _biased(before: nn.Module) -> nn.Module:
    """The original with one number changed: the last bias of the class, lowered."""
    hidden = copy.deepcopy(before)
    last = [part for part in hidden.modules() if isinstance(part, nn.Linear)][-1]
    with torch.no_grad():
        last.bias[FORGOTTEN] -= HIDDEN
    return hidden


class Noisy(nn.Module):
    """The original, with noise on its logits wherever it would answer one class.

    Its child has a name that says nothing of a guard, so that only asking again finds it out.
    """

    def __init__(self, network: nn.Module, label: int) -> None:
        super().__init__()
        self.network, self.label = network, label

    def forward(self, images: Tensor) -> Tensor:
        """Logits (n, classes)."""
        logits: Tensor = self.network(images)
        hidden = (logits.argmax(1) == self.label).unsqueeze(1)
        return torch.where(hidden, logits + NOISE * torch.randn_like(logits), logits)


@dataclass(frozen=True, eq=False)
class Known:
    """A model of which it is known what an audit must say.

    Args:
        name: of the model.
        model: whatever would be deployed.
        must: results that are demanded: of several questions in one key, at least one must come out
            so.
    """

    name: str
    model: nn.Module
    must: Mapping[tuple[Question, ...], Result]


@dataclass(frozen=True, eq=False)
class World:
    """An audit on real rows, and models that it must tell apart."""

    audit: Audit
    models: tuple[Known, ...]
    train: Samples


@dataclass(frozen=True, eq=False)
class Row:
    """What was said of one model under one seed."""

    name: str
    seed: int
    results: Mapping[Question, Result]
    broken: tuple[str, ...]
    audited: Audited


@dataclass(frozen=True, eq=False)
class SelfTest:
    """All rows; :attr:`confusion` counts them."""

    rows: tuple[Row, ...]
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether everything came out as it must."""
        return not any(row.broken for row in self.rows)

    @property
    def confusion(self) -> dict[str, dict[Question, dict[Result, int]]]:
        """By model and question, how often each result came out."""
        table: dict[str, dict[Question, dict[Result, int]]] = {}
        for row in self.rows:
            counts = table.setdefault(row.name, {q: dict.fromkeys(Result, 0) for q in QUESTIONS})
            for question, result in row.results.items():
                counts[question][result] += 1
        return table

    def to_json(self) -> dict[str, Any]:
        """Everything as JSON values."""
        return {
            "passed": self.passed,
            "confusion": {
                name: {q: {r.value: n for r, n in counts.items()} for q, counts in row.items()}
                for name, row in self.confusion.items()
            },
            "rows": [
                {
                    "model": row.name,
                    "seed": row.seed,
                    "results": {q: r.value for q, r in row.results.items()},
                    "broken": list(row.broken),
                    "audit": row.audited.to_json(),
                }
                for row in self.rows
            ],
            **self.facts,
        }


Told = Callable[[str], None]


def self_test(
    seeds: Sequence[int],
    policy: Policy | None = None,
    unlearner: Unlearner | None = None,
    told: Told | None = None,
) -> SelfTest:
    """Audit every known model under every seed, at the standard level.

    Args:
        seeds: of the split of the digits and of every training.
        policy: thresholds; every question is asked whatever it says.
        unlearner: another tool's method, whose model stands in the table as ``yours``; nothing is
            demanded of it.
        told: is told of each model that was audited.
    """
    limits = (policy or Policy()).model_copy(update={"questions": QUESTIONS})
    rows = []
    for seed in seeds:
        for make in (class_removed, all_copies, one_of_three_copies):
            world = make(seed, limits)
            for known in (*world.models, *_yours(world, unlearner)):
                rows.append(judged(world, known, seed))
                if told is not None:
                    told(f"seed {seed}: {known.name}")
    return SelfTest(tuple(rows), {"seeds": list(seeds), "policy": limits.model_dump(mode="json")})


def judged(world: World, known: Known, seed: int) -> Row:
    """What an audit says of a model, and where that is not what it must say."""
    audited = world.audit.ask(known.model)
    results: dict[Question, Result] = {q: audited.verdict(q).result for q in QUESTIONS}
    broken = tuple(
        f"{known.name} (seed {seed}): {' or '.join(questions)} must be {result.value}, and came "
        f"out as {', '.join(results[q].value for q in questions)}"
        for questions, result in known.must.items()
        if result not in {results[q] for q in questions}
    )
    return Row(known.name, seed, results, broken, audited)


def _yours(world: World, unlearner: Unlearner | None) -> tuple[Known, ...]:
    removal = world.audit.removal
    if unlearner is None or removal.forget_rows is None:
        return ()
    changed = unlearner(removal.before, world.train, removal.forget_rows, removal.run)
    return (Known(f"yours ({removal.name})", changed, {}),)


EVERY_PASS: Mapping[tuple[Question, ...], Result] = {(q,): Result.PASS for q in QUESTIONS}


def class_removed(seed: int, policy: Policy | None = None) -> World:
    """A whole class goes: original, oracle, guard, noise, over-forgetting, destruction."""
    run = Run(seed)
    train, held_out = _split(seed)
    recipe = _recipe(CLASS_EPOCHS, seed)
    before = recipe.make({Role.TRAIN: train}, run).model
    forget = (train.columns["label"] == FORGOTTEN).nonzero().reshape(-1)
    audit = _audit(f"the digit {FORGOTTEN}", before, train, forget, held_out, recipe, policy)
    removal = audit.removal
    oracle = _retrained(recipe, removal.retain, run)
    fail: Callable[..., Mapping[tuple[Question, ...], Result]] = partial(_must, Result.FAIL)
    models = (
        Known("original", before, fail(("forgotten",))),
        Known("oracle", oracle, EVERY_PASS),
        Known(
            "guard that refuses",
            Refusing(before, FORGOTTEN),
            {("forgotten",): Result.PASS, ("deleted or suppressed",): Result.FAIL},
        ),
        Known(
            "noise on its logits",
            Noisy(before, FORGOTTEN),
            fail(("deleted or suppressed",), ("forgotten",)),
        ),
        Known(
            "class hidden by its bias",
            _biased(before),
            {("forgotten",): Result.PASS, ("deleted or suppressed",): Result.FAIL},
        ),
        Known("over-forgotten by ascent", _pushed(removal), fail(("forgotten",))),
        Known("destroyed", recipe.builder(seed + 7), fail(("kept",))),
    )
    return World(audit, models, train)


def all_copies(seed: int, policy: Policy | None = None) -> World:
    """Wrong labels, three copies of each, all to go: a model that forgot one of the copies."""
    run, recipe = Run(seed), _recipe(CANARY_EPOCHS, seed)
    train, held_out, named = _planted(seed)
    before = recipe.make({Role.TRAIN: train}, run).model
    forget = torch.cat(list(named))
    audit = _audit("all three copies", before, train, forget, held_out, recipe, policy)
    one = train.select(all_but(len(train), named[0]))
    models = (
        Known("original (copies)", before, _must(Result.FAIL, ("forgotten",))),
        Known("oracle (copies)", _retrained(recipe, audit.removal.retain, run), EVERY_PASS),
        Known(
            "one of three copies forgotten",
            _retrained(recipe, one, run),
            _must(Result.FAIL, ("forgotten",)),
        ),
    )
    return World(audit, models, train)


def one_of_three_copies(seed: int, policy: Policy | None = None) -> World:
    """The same rows, and a request that names one copy of each: even retraining leaves the rest."""
    run, recipe = Run(seed), _recipe(CANARY_EPOCHS, seed)
    train, held_out, named = _planted(seed)
    before = recipe.make({Role.TRAIN: train}, run).model
    audit = _audit("one of three copies", before, train, named[0], held_out, recipe, policy)
    audit = Audit.of(audit.removal, audit.policy, Level.QUICK)
    deployed = _retrained(recipe, audit.removal.retain, run)
    must = _must(Result.FAIL, ("duplicates left",))
    return World(audit, (Known("one of three copies named", deployed, must),), train)


def _must(
    result: Result, *questions: tuple[Question, ...]
) -> Mapping[tuple[Question, ...], Result]:
    return dict.fromkeys(questions, result)


def _recipe(epochs: int, seed: int) -> Recipe:
    learner = Plain(epochs, 64, AdamW(1e-3))
    return Recipe(digits_classifier, Classifier(classes=CLASSES), learner, seed)


def _retrained(recipe: Recipe, rows: Samples, run: Run) -> nn.Module:
    """An oracle of its own seed: none of those that the audit trains itself."""
    return recipe.with_seed(recipe.seed + 500).make({Role.TRAIN: rows}, run).model


def _everything() -> TensorSamples:
    table = digits.load()
    return own.samples(table, digits.tensors(table))


def _split(seed: int) -> tuple[TensorSamples, TensorSamples]:
    """Rows to train on and rows held out, another split for every seed."""
    rows = _everything()
    order = torch.randperm(len(rows), generator=Run(seed).generator("self-test: split"))
    return rows.select(order[:TRAINED].sort().values), rows.select(order[TRAINED:].sort().values)


def _planted(seed: int) -> tuple[TensorSamples, TensorSamples, tuple[Tensor, ...]]:
    """Training rows of which some have another label and stand there three times, held-out rows,
    and the positions of each set of copies."""
    train, held_out = _split(seed)
    draws = Run(seed).generator("self-test: canaries")
    chosen = torch.randperm(len(train), generator=draws)[:CANARIES].sort().values
    labels = train.columns["label"].clone()
    labels[chosen] = other_labels(labels[chosen], CLASSES, draws)
    train = train.with_column("label", labels)
    canaries = train.select(chosen)
    extra = [canaries for _ in range(COPIES - 1)]
    rows = TensorSamples(
        [*train.ids, *(f"{name}#{k}" for k, part in enumerate(extra, 1) for name in part.ids)],
        [*train.subjects, *(name for part in extra for name in part.subjects)],
        {
            name: torch.cat([column, *(part.columns[name] for part in extra)])
            for name, column in train.columns.items()
        },
    )
    first = len(train)
    places = [torch.arange(first + k * CANARIES, first + (k + 1) * CANARIES) for k in range(2)]
    return rows, held_out, (chosen, *places)


def _audit(
    name: str,
    before: nn.Module,
    train: TensorSamples,
    forget: Tensor,
    held_out: TensorSamples,
    recipe: Recipe,
    policy: Policy | None,
) -> Audit:
    removal = Removal(
        name,
        before,
        recipe.family,
        train.select(forget),
        train.select(all_but(len(train), forget)),
        held_out,
        Run(recipe.seed),
        recipe,
        searched=_table("train", train),
        forget_rows=forget,
        unseen=_table("held-out", held_out),
    )
    return Audit.of(removal, policy, Level.STANDARD, engine="stacked")


def _table(name: str, rows: TensorSamples) -> Searched:
    """The rows as a table that can be searched for near copies."""
    import datasets

    grey = (rows.columns["image"].flatten(1) * digits.INK).tolist()
    content = {"id": list(rows.ids), "image": grey}
    return Searched(name, datasets.Dataset.from_dict(content))


def _pushed(removal: Removal) -> nn.Module:
    """The original after gradient difference that went on far too long."""
    request = Request(removal.name, Rows("label", (str(FORGOTTEN),)), labels=(FORGOTTEN,))
    problem = Problem(
        removal.before,
        removal.family,
        request,
        {Role.FORGET: removal.forget, Role.RETAIN: removal.retain},
        History.of(digest_of(removal.before)),
    )
    method = GradientDifference(epochs=40, learning_rate=1e-3)
    return unlearn(method, problem, removal.run).applied_to(removal.before)
