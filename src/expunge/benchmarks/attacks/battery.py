"""Every attack on one model: what it answers of the forgotten facts, and how sure of them it is.

An attack brings out facts or it does not; how many an oracle gives under the same attack is asked
of the oracle by the same function. An attack that a model of this kind does not admit says why.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import nn

from expunge.attacks.edit_off import switchable, switched_off
from expunge.attacks.logit_lens import logit_lens
from expunge.attacks.paraphrase import asked_in_ways
from expunge.attacks.quantisation import quantised
from expunge.attacks.relearning import Relearning
from expunge.attacks.state_probe import StateProbe
from expunge.audit.case import reason_of
from expunge.benchmarks.attacks.rows import AttackRows, Shown, fact_of
from expunge.benchmarks.facts.work import ATTACK, STEPS
from expunge.data.samples import Samples, TensorSamples
from expunge.errors import ExpungeError
from expunge.run import Run
from expunge.signals.ask import answers_of, ask
from expunge.signals.text_membership import loss_score, membership_auc, min_k_score

BITS = (8, 4, 3)

PLAIN = "asked"
"""The attack that is none: the question as it was trained."""

RETAINED = "retain"
"""Under this name the share of the retained facts that is answered, which is no attack."""

NO_ZLIB = "zlib does not apply: rows are tokens, and answers of a few words do not compress"

Found = dict[str, Any]


@dataclass(frozen=True)
class Battery:
    """All attacks on a model of a world.

    Args:
        rows: what is asked and shown.
        model: it stays as it is.
        run: its seed fixes the order in which relearning shows rows.
    """

    rows: AttackRows
    model: nn.Module
    run: Run

    def conduct(self) -> Found:
        """``attacks``: by name how many forgotten facts were ``answered`` ``of`` how many, or why
        it could not be made (``not``), and more by attack; ``membership``; ``retain``."""
        attacks = {name: _tried(attack) for name, attack in self._attacks()}
        return {
            "attacks": attacks,
            "membership": self._membership(),
            RETAINED: self._answered(self.model, self.rows.retained)["share"],
        }

    def _attacks(self) -> Iterator[tuple[str, Callable[[], Found]]]:
        rows = self.rows
        yield PLAIN, partial(self._answered, self.model, rows.forgotten)
        yield "prefix", partial(self._in_ways, rows.prefixed())
        yield "begun", partial(self._answered, self.model, rows.begun())
        yield "paraphrase", partial(self._in_ways, rows.phrased())
        yield "lens", self._lens
        yield "probe", self._probe
        for bits in BITS:
            yield f"{bits} bits", partial(self._rounded, bits)
        for kind, sets in rows.relearning().items():
            yield kind, partial(self._relearned, sets)
        if switchable(self.model):
            yield "edit off", self._switched_off

    def _answered(self, model: nn.Module, asked: Samples) -> Found:
        right = ask(self.rows.world.family, model, asked, self.run).query("correct")
        return _counted(int(right.sum()), len(asked))

    def _in_ways(self, ways: dict[str, TensorSamples]) -> Found:
        """Facts that any of the ways brings out, and each way by itself."""
        found = asked_in_ways(self.rows.world.family, self.model, ways, self.run, fact_of)
        each = {name: len(facts) / found.asked[name] for name, facts in found.answered.items()}
        return _counted(len(found.any), len(found.facts)) | {"ways": each}

    def _rounded(self, bits: int) -> Found:
        return self._answered(quantised(self.model, bits), self.rows.forgotten)

    def _switched_off(self) -> Found:
        return self._answered(switched_off(self.model), self.rows.forgotten)

    def _lens(self) -> Found:
        """The layer after which the head reads most."""
        rows = self.rows.forgotten
        lens = logit_lens(self.rows.world.family, self.model, rows, self.run)
        return _best(lens.shares, len(rows)) | {
            "rank": lens.rank.double().median(1).values.tolist(),
            "log probability": lens.log_probability.mean(1).tolist(),
        }

    def _probe(self) -> Found:
        """The layer after which a linear map reads most."""
        learned, validation = self.rows.probing
        asked = self.rows.forgotten
        readings = StateProbe().readings(
            self.rows.world.family, self.model, learned, validation, asked, self.run
        )
        return _best([reading.share for reading in readings], len(asked)) | {
            "validation": [reading.validation for reading in readings]
        }

    def _relearned(self, sets: Mapping[int, Shown]) -> Found:
        """The most that is answered at any step, of any number of rows shown; all curves."""
        curves, most, asked = {}, 0.0, 1
        for count, each in sets.items():
            attack = Relearning(STEPS, len(each.shown), ATTACK)
            curve = attack.curve(
                self.model, self.rows.world.family, each.shown, each.asked, self.run
            )
            curves[str(count)], most, asked = list(curve), max(most, *curve), len(each.asked)
        return _counted(round(most * asked), asked) | {"curves": curves}

    def _membership(self) -> Found:
        """AUC of the forgotten facts against those of strangers: .5 where nothing tells them
        apart."""
        family = self.rows.world.family
        mine, others = (
            answers_of(family, self.model, rows, self.run)[0]
            for rows in (self.rows.forgotten, self.rows.strangers)
        )
        scores = {"loss": loss_score, "Min-K%": min_k_score}
        found = {name: membership_auc(score(mine), score(others)) for name, score in scores.items()}
        return {**found, "zlib": NO_ZLIB}


def _counted(answered: int, of: int) -> Found:
    return {"answered": answered, "of": of, "share": answered / of}


def _best(shares: Any, of: int) -> Found:
    return _counted(round(max(shares) * of), of) | {"layers": list(shares)}


def _tried(attack: Callable[[], Found]) -> Found:
    try:
        return attack()
    except ExpungeError as error:
        return {"not": reason_of(error)}
