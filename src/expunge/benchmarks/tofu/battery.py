"""The battery of TOFU: what is forgotten, what is kept, and both against the oracles.

Maini, Feng, Schwarzschild, Lipton, Kolter (2024). TOFU: A Task of Fictitious Unlearning for LLMs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from torch import Tensor, nn

from expunge.benchmarks.tofu.asking import Answers, Asker
from expunge.benchmarks.tofu.item import Item
from expunge.families.abilities import UnitLosses
from expunge.signals.forget_quality import forget_quality
from expunge.signals.probability import answer_probability, option_probability
from expunge.signals.text_membership import (
    loss_score,
    membership_auc,
    min_k_score,
    privleak,
    zlib_score,
)
from expunge.signals.truth_ratio import extent_of_knowledge, forget_truth_ratio, retain_truth_ratio
from expunge.signals.utility import SETS, model_utility

Figures = dict[str, float | None]
RETAIN, AUTHORS, FACTS = SETS


@dataclass(frozen=True, eq=False)
class Battery:
    """The questions of each split, and who asks them.

    Args:
        asker: asks.
        forget: what is to be forgotten.
        kept: by name of :data:`SETS`, what is to be kept.
        holdout: questions about what no model ever saw, for membership attacks; may be empty.
    """

    asker: Asker
    forget: Sequence[Item]
    kept: Mapping[str, Sequence[Item]]
    holdout: Sequence[Item] = ()

    def forgotten(self, model: nn.Module) -> Answers:
        """What a model answers on the forget questions."""
        return self.asker.ask(model, "forget", self.forget)

    def utility(self, model: nn.Module) -> dict[str, dict[str, float]]:
        """Probability, ROUGE and truth ratio on each kept split."""
        found = {}
        for name, items in self.kept.items():
            answers = self.asker.ask(model, name, items)
            probability = (
                answer_probability(answers.mean_losses)
                if name == RETAIN
                else option_probability(answers.mean_losses, answers.wrong)
            )
            found[name] = {
                "probability": float(probability.mean()),
                "ROUGE": float(answers.rouge.mean()),
                "truth ratio": float(retain_truth_ratio(answers.ratios)),
            }
        return found

    def read(self, model: nn.Module, oracles: Sequence["Known"]) -> Figures:
        """The point of a curve: forget quality (median over the oracles), truth ratio, probability
        and ROUGE on forget questions, and the model utility."""
        answers = self.forgotten(model)
        return {
            **quality(answers.ratios, oracles),
            **_on_forget(answers),
            "model utility": model_utility(self.utility(model)),
        }

    def whole(self, model: nn.Module, oracles: Sequence["Known"]) -> Figures:
        """All figures of a model, membership attacks with them."""
        answers, kept = self.forgotten(model), self.utility(model)
        nine = {f"{measure}, {name}": v for name, of in kept.items() for measure, v in of.items()}
        return {
            **quality(answers.ratios, oracles),
            **_on_forget(answers),
            **answers.memorised(),
            "extent of knowledge": float(extent_of_knowledge(answers.ratios)),
            "model utility": model_utility(kept),
            **nine,
            **self._membership(model, answers.losses, oracles),
        }

    def known(self, model: nn.Module) -> "Known":
        """What other models are held against, of an oracle."""
        answers = self.forgotten(model)
        auc = None
        if self.holdout:
            auc = membership_auc(min_k_score(self._unseen(model)), min_k_score(answers.losses))
        return Known(answers.ratios, auc)

    def _unseen(self, model: nn.Module) -> UnitLosses:
        return self.asker.losses(model, self.holdout)

    def _membership(
        self, model: nn.Module, losses: UnitLosses, oracles: Sequence["Known"]
    ) -> Figures:
        """AUC of forget against hold-out answers by loss, Min-K% and zlib; PrivLeak."""
        if not self.holdout:
            return {}
        unseen = self._unseen(model)
        forget = [item.answer for item in self.forget]
        fresh = [item.answer for item in self.holdout]
        leaks = [
            privleak(min_k_score(losses), min_k_score(unseen), oracle.auc)
            for oracle in oracles
            if oracle.auc
        ]
        return {
            "AUC of loss": membership_auc(loss_score(losses), loss_score(unseen)),
            "AUC of Min-K%": membership_auc(min_k_score(losses), min_k_score(unseen)),
            "AUC of zlib": membership_auc(zlib_score(losses, forget), zlib_score(unseen, fresh)),
            "PrivLeak": median(leaks) if leaks else None,
        }


@dataclass(frozen=True, eq=False)
class Known:
    """What is held against of an oracle.

    Args:
        ratios: truth ratios (n,) on the forget questions.
        auc: chance that a hold-out answer looks more like a training row than a forget answer.
    """

    ratios: Tensor = field(repr=False)
    auc: float | None = None


def quality(ratios: Tensor, oracles: Sequence[Known]) -> Figures:
    """Forget quality against each oracle, medians; None without an oracle."""
    tests = [forget_quality(ratios, oracle.ratios) for oracle in oracles]
    if not tests:
        return {"forget quality (log10 p)": None, "KS distance": None}
    return {
        "forget quality (log10 p)": median(test.log10_p for test in tests),
        "KS distance": median(test.distance for test in tests),
    }


def _on_forget(answers: Answers) -> Figures:
    return {
        "forget truth ratio": float(forget_truth_ratio(answers.ratios)),
        "forget probability": float(answer_probability(answers.mean_losses).mean()),
        "forget ROUGE": float(answers.rouge.mean()),
    }
