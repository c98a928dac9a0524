"""The audit: one deployed model, six questions, a verdict each.

What is audited is the model as it is in use, whoever made it: weights that were edited, a module
with a guard around it, another tool's model. It is held against oracles and shadow models of
:class:`~expunge.audit.references.References`, which several audits of one removal can share.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import torch
from torch import nn

from expunge.audit.audit_schema import UNKNOWN_STATE
from expunge.audit.beside import said_of
from expunge.audit.case import digest_of_samples
from expunge.audit.inquiry import Inquiry, Level, Step
from expunge.audit.policy import Policy, Question
from expunge.audit.questions.deleted import deleted
from expunge.audit.questions.duplicates import duplicates
from expunge.audit.questions.forgotten import forgotten
from expunge.audit.questions.kept import kept
from expunge.audit.questions.private import private
from expunge.audit.questions.stays_forgotten import stays_forgotten
from expunge.audit.references import References
from expunge.audit.removal import Removal
from expunge.audit.verdict import Result, Verdict, worst
from expunge.changes.deletion import DeletionState
from expunge.changes.weights import digest_of
from expunge.errors import ExpungeError
from expunge.learning.population import Engine

ASKED: Mapping[Question, Callable[[Inquiry], Verdict]] = {
    "forgotten": forgotten,
    "kept": kept,
    "private": private,
    "stays forgotten": stays_forgotten,
    "deleted or suppressed": deleted,
    "duplicates left": duplicates,
}


@dataclass(frozen=True, eq=False)
class Audited:
    """What an audit came to.

    Args:
        level: what was allowed to be trained.
        verdicts: one for each question of the policy, in its order.
        facts: seeds, hashes, counts, seconds and the policy, as JSON values.
    """

    level: Level
    verdicts: tuple[Verdict, ...]
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def result(self) -> Result:
        """Fail if a question failed, pass if all passed."""
        return worst(verdict.result for verdict in self.verdicts)

    def verdict(self, question: Question) -> Verdict:
        """The verdict of one question.

        Raises:
            KeyError: it was not asked.
        """
        return {verdict.question: verdict for verdict in self.verdicts}[question]

    def to_json(self) -> dict[str, Any]:
        """Everything that a report is rendered from, as JSON values."""
        return {
            "level": self.level.value,
            "result": self.result.value,
            "verdicts": [verdict.to_json() for verdict in self.verdicts],
            **self.facts,
        }


@dataclass(frozen=True, eq=False)
class Audit:
    """A removal, its references, a policy and a level: what any deployed model is asked with.

    Args:
        removal: what was to be forgotten.
        policy: thresholds.
        level: what may be trained.
        references: oracles and shadow models; :meth:`of` trains as many as the level says.
    """

    removal: Removal
    policy: Policy
    level: Level
    references: References

    @classmethod
    def of(
        cls,
        removal: Removal,
        policy: Policy | None = None,
        level: Level = Level.STANDARD,
        *,
        oracles: Sequence[nn.Module] = (),
        folder: Path | None = None,
        engine: Engine | None = None,
    ) -> Self:
        """An audit whose references are trained when a question first needs them.

        Args:
            removal: what was to be forgotten.
            policy: thresholds; the documented defaults without one.
            level: what may be trained.
            oracles: models without the forgotten rows that exist already.
            folder: where trained references are kept and found again; nowhere by default.
            engine: how they are trained; the fastest by default.

        Raises:
            ExpungeError: an oracle is the model before.
        """
        if oracles and digest_of(removal.before) in map(digest_of, oracles):
            raise ExpungeError(
                "An oracle was given that has the weights of the model before the removal; a model "
                "that never saw the forgotten rows is expected."
            )
        limits = policy or Policy()
        wanted, shadows = 0, 0
        if removal.recipe is not None and level is not Level.QUICK:
            adversarial = level is Level.ADVERSARIAL
            wanted = limits.population if adversarial else limits.oracles
            shadows = limits.population if adversarial else limits.shadows
        references = References(removal, wanted, shadows, tuple(oracles), folder, engine)
        return cls(removal, limits, level, references)

    def ask(
        self,
        deployed: nn.Module,
        steps: Sequence[Step] = (),
        state: DeletionState | None = None,
    ) -> Audited:
        """Every question of the policy to one deployed model.

        Args:
            deployed: the model as it is in use; it stays as it is.
            steps: the models of its history, in order, where it has one.
            state: what its history says of the forgotten rows, where that is known.

        Raises:
            ExpungeError: an answer or a loss is not finite, or a question cannot be measured on
                these rows at all.
        """
        inquiry = Inquiry(
            self.removal, deployed, self.references, self.policy, self.level, tuple(steps)
        )
        start = time.perf_counter()
        verdicts: list[Verdict] = []
        seconds: dict[str, float] = {}
        for question in self.policy.questions:
            began = time.perf_counter()
            verdicts.append(ASKED[question](inquiry))
            seconds[question] = round(time.perf_counter() - began, 2)
        facts = self._facts(deployed) | {
            "deletion state": UNKNOWN_STATE if state is None else state.value,
            "seconds": {**seconds, "all": round(time.perf_counter() - start, 2)},
        }
        return Audited(self.level, tuple(verdicts), facts)

    def _facts(self, deployed: nn.Module) -> dict[str, Any]:
        """What the verdicts depend on."""
        removal, references = self.removal, self.references
        sets = {"forget": removal.forget, "retain": removal.retain, "held-out": removal.held_out}
        return {
            "request": removal.name,
            "metric": removal.metric.name,
            "models": {
                "original": digest_of(removal.before),
                "deployed": digest_of(deployed),
                "oracles": [digest_of(model) for model in references.models],
            },
            "rows": {
                name: {"count": len(rows), "digest": digest_of_samples(rows)}
                for name, rows in sets.items()
            },
            "references": {
                "oracles": len(references.models),
                "given": len(references.given),
                "shadows": references.shadows,
                "in words": said_of(references.models) if references.models else "no oracle",
            },
            "seed": removal.run.seed,
            "device": removal.run.device,
            "policy": self.policy.model_dump(mode="json"),
            "torch": torch.__version__,
        }
