"""Guardrail: refuse what is forgotten, within seconds, and leave the weights as they are.

Thaker, Maurya, Hu, Wu, Smith (2024). Guardrail Baselines for Unlearning in LLMs: a filter on the
prompt and on the text that comes out does, by the usual measures, about as well as fine-tuning.
This is its form for models that classify: what goes in is known by what the model itself makes of
it (logits, or the image features of a dual encoder), and what comes out by the class of the answer.

It deletes nothing: the model is suppressed until its weights change.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor

from expunge.changes.guarded import unguarded
from expunge.changes.refusal import Refusal, Rule, Signal, centred, represented
from expunge.changes.weights import digest_of
from expunge.data.samples import Samples, batches
from expunge.errors import ExpungeError
from expunge.families.abilities import HasLogits, able
from expunge.families.dual_encoder import DualEncoder
from expunge.methods.protocol import Artifact, Outcome
from expunge.methods.search import Range
from expunge.models.modes import evaluating
from expunge.problem import Access, Problem
from expunge.recipe import Role
from expunge.run import Run, on_device

TOLERANCE = 1e-5
"""The smallest threshold: rows come back this near to their keys at half precision, too."""

READ_AT_ONCE = 256
"""Rows that the model is asked about at a time."""

RAREST = 1e-9
"""Share from which the logarithm of a class's share is taken."""


@dataclass(frozen=True)
class Guardrail:
    """Refuse inputs that the model takes for forgotten rows, or answers with a forgotten class.

    Args:
        wrongly: share of other rows that may be refused though the model answers them with no
            forgotten class, by all requests of an epoch together; and never more of them than are
            forgotten.
        rows: other rows at most that are read to find the threshold.
        calibrated_on: their role. ``retain`` leaves out the rows of earlier requests, so that these
            cannot be withdrawn before this one; with ``validation`` each request can.

    Raises:
        ExpungeError: a field cannot be.
    """

    name: ClassVar[str] = "guardrail"
    paper: ClassVar[str] = "Thaker et al. 2024, Guardrail Baselines for Unlearning in LLMs"
    sequential: ClassVar[bool] = True  # keys are made by the weights in use
    needs: ClassVar[tuple[type, ...]] = (HasLogits,)
    prepares_with: ClassVar[Access] = Access()
    search: ClassVar[Mapping[str, Range]] = {}  # the threshold is found from the rows
    suppresses_by: ClassVar[str] = "guard"

    wrongly: float = 0.01
    rows: int = 500
    calibrated_on: Literal["retain", "validation"] = "retain"

    def __post_init__(self) -> None:
        if not (0 <= self.wrongly < 1 and self.rows >= 1):
            raise ExpungeError(
                f"Guardrail was given wrongly {self.wrongly} and rows {self.rows}; a share of at "
                "least 0 and below 1, and at least one row, are expected."
            )

    @property
    def unlearns_with(self) -> Access:
        """The forget set, and the role that the threshold is found on."""
        return Access.to(Role.FORGET, Role(self.calibrated_on))

    def prepare(self, problem: Problem, run: Run) -> Artifact:
        """Nothing to prepare."""
        return Artifact()

    def unlearn(self, problem: Problem, artifact: Artifact, run: Run) -> Outcome:
        """A :class:`~expunge.changes.refusal.Refusal` with one rule.

        Raises:
            ExpungeError: the model answers too many other rows as it does forgotten ones.
        """
        kind: Signal = "image features" if isinstance(problem.family, DualEncoder) else "logits"
        role = Role(self.calibrated_on)
        forget, others = problem.data[Role.FORGET], problem.data[role]
        total = len(others)
        order = torch.randperm(total, generator=run.generator("guardrail"))
        others = others.select(order[: self.rows].sort().values)
        problem = replace(problem, model=unguarded(problem.model))
        run.meter.touch(Role.FORGET.value, len(forget))
        run.meter.touch(role.value, len(others))
        signal = _signals(problem, others, kind, run)
        rule = _rule(problem, _signals(problem, forget, kind, run), _classes(problem, others), run)
        stays = ~rule.answered(signal)  # the others are refused by their class
        if not bool(stays.any()):
            raise ExpungeError(
                f"The model answers all {len(others)} rows of the {role.value} set with a "
                "forgotten class; at least one that it answers otherwise is expected. Give more "
                "rows."
            )
        signal = signal[stays]
        earlier = [refusal.refuses(signal) for refusal in _earlier(problem, kind)]
        done = torch.stack(earlier).any(0) if earlier else torch.zeros(len(signal)).bool()
        # never more others than there are forgotten rows, in proportion to the rows that are read
        most = round(len(forget) * len(others) / total)
        allowed = min(math.floor(self.wrongly * len(signal)), most)
        rule = replace(rule, neutral=_neutral(signal, kind))
        rule = _with_threshold(rule, rule.distances(signal, kind), done, allowed)
        facts = {"method": self.name, "request": problem.request.digest()}
        return Outcome((Refusal(digest_of(problem.model), kind, (rule,), facts),))


def _with_threshold(rule: Rule, distances: Tensor, done: Tensor, allowed: int) -> Rule:
    """The rule with the threshold below which as many other rows lie as may still be refused.

    Where none may any more, the threshold is half as wide an angle as that of the nearest.

    Args:
        rule: with any threshold.
        distances: (n,) of other rows to the nearest key.
        done: (n,) whether they are refused already.
        allowed: how many may be refused.

    Raises:
        ExpungeError: more rows than that cannot be told from forgotten ones.
    """
    left, near = max(0, allowed - int(done.sum())), distances[~done].sort().values
    if len(near) == 0:
        return rule
    same = int((near < TOLERANCE).sum())
    if same > max(1, allowed):
        raise ExpungeError(
            f"The model answers {same} of {len(distances)} other rows as it answers forgotten "
            f"ones, and {max(1, allowed)} may be refused: a guard cannot tell them apart. Raise "
            "`wrongly`, or take a method that changes the weights (`expunge methods`)."
        )
    found = float(near[min(left, len(near) - 1)] if left else near[0] / 4)
    return replace(rule, threshold=min(1.0, max(TOLERANCE, found)))


def _rule(problem: Problem, signal: Tensor, classes: tuple[int, ...], run: Run) -> Rule:
    """The rule of the forgotten rows; threshold and neutral answer are still to be found."""
    if isinstance(problem.family, DualEncoder):
        with evaluating(on_device(problem.model, run)) as asked, torch.no_grad():
            texts = problem.family.text_features(asked).float().cpu().clone()
        keys = represented(signal, "image features", 0.0)
        return Rule(keys, TOLERANCE, torch.zeros(signal.shape[1]), 0.0, classes, texts)
    scale = float(centred(signal).norm(dim=1).mean()) or 1.0  # no logits differ: one key for all
    keys = represented(signal, "logits", scale)
    return Rule(keys, TOLERANCE, torch.zeros(signal.shape[1]), scale, classes)


def _neutral(signal: Tensor, kind: Signal) -> Tensor:
    """What the model answers to others on the whole: their mean feature, or the logarithm of the
    mean probability of each class. No input is told from another by it, and no tie is broken in
    favour of the first class."""
    if kind == "image features":
        return signal.mean(0)
    return signal.softmax(1).mean(0).clamp_min(RAREST).log()


def _signals(problem: Problem, samples: Samples, kind: Signal, run: Run) -> Tensor:
    """What the model makes of all samples, (n, C) or (n, d) float32 on the CPU.

    Raises:
        ExpungeError: an answer is not a number.
    """
    family, found = problem.family, []
    with evaluating(on_device(problem.model, run)) as asked, torch.no_grad(), run.autocast():
        for raw in batches(samples, READ_AT_ONCE):
            batch = {name: tensor.to(run.device) for name, tensor in raw.items()}
            if kind == "image features":
                answer = able(family, DualEncoder).image_features(asked, batch)
            else:
                answer = able(family, HasLogits).logits(asked, batch)
            found.append(answer.float().cpu())
    signal = torch.cat(found)
    if bool(signal.isnan().any()):
        raise ExpungeError(
            "The model answers some rows with what is not a number; a guard needs finite answers. "
            "Check the weights and the inputs."
        )
    return signal


def _classes(problem: Problem, others: Samples) -> tuple[int, ...]:
    """The classes that go as a whole: none where the request is for rows, or rows of them stay."""
    forget, request = problem.data[Role.FORGET], problem.request
    if request.labels:
        return request.labels
    if request.target.kind != "class" or "label" not in forget.fields:
        return ()
    gone = _labels(forget)
    if Role.RETAIN in problem.data and "label" in others.fields:
        gone -= _labels(others)
    return tuple(sorted(gone))


def _labels(samples: Samples) -> set[int]:
    labels: list[int] = samples.batch(torch.arange(len(samples)), {"label"})["label"].tolist()
    return set(labels)


def _earlier(problem: Problem, kind: Signal) -> list[Refusal]:
    """The refusals that stand around the model already."""
    changes = [change for entry in problem.history.current.served for change in entry.changes]
    return [c for c in changes if isinstance(c, Refusal) and c.signal == kind]
