"""The jobs of the benchmark: attack a pool, and attack what an unlearning method leaves of it."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from statistics import fmean

import torch
from datasets import Dataset
from torch import Tensor, nn

from expunge import registry
from expunge.aggregation.sum import Sum
from expunge.attacks import (
    Shadows,
    Target,
    Unlearned,
    entropy_attack,
    lira_fixed_variance,
    lira_offline,
    lira_online,
    loss_attack,
    margin_drop,
    modified_entropy_attack,
    population_attack,
    rmia_offline,
    rmia_online,
    u_lira_forgotten,
    u_lira_one_sided,
    u_lira_retained,
    u_lira_two_sided,
)
from expunge.audit.case import reason_of
from expunge.benchmarks.jobs import Result
from expunge.benchmarks.membership.pools import (
    SETTINGS,
    Place,
    Pool,
    Setting,
    recipe_of,
    shares_right,
)
from expunge.deployment import Deployment
from expunge.methods.presets import AtPreset
from expunge.methods.protocol import Method
from expunge.requests import Request
from expunge.requests import Rows as Wanted
from expunge.run import Run
from expunge.signals.ask import predict
from expunge.signals.predictions import Predictions
from expunge.signals.roc import Roc

TARGETS = 8
"""Models that are attacked by all others, one after another."""

FEW_REFERENCES = 4
"""Models of the cheap form of RMIA."""

NOTHING, RETRAIN, MUTE = "no unlearning", "retrained", "suppressed"
"""What stands beside the methods: the original, the oracle, and a guard that hides the answer."""

ASKED, EACH = 80, 20
"""Rows that are asked for, and how many of them each model is made to forget."""

FEWEST = 4
"""Models that forgot a row at least; rows that fewer forgot are not attacked."""

MUTED = 12.0
"""Nats by which the guard lowers the margin of what it hides."""


@dataclass(frozen=True)
class Attacking:
    """Every attack on one pool."""

    place: Place
    setting: str
    seed: int
    models: int

    @property
    def title(self) -> str:
        """Setting and seed."""
        return f"attacks on the {self.setting} pool, seed {self.seed}"

    @property
    def pool(self) -> Pool:
        """What is attacked."""
        return Pool(setting_of(self.setting), self.seed, self.models, self.place)

    def depends_on(self) -> Mapping[str, object]:
        """Setting, seed, size, and the code that trains and attacks."""
        return {
            "setting": repr(setting_of(self.setting)),
            "seed": self.seed,
            "models": self.models,
            "code": self.place.code,
        }

    def done(self) -> Result:
        """AUC and TPR of every attack: means over the attacked models."""
        start = time.process_time()
        pool = self.pool
        found, member, redrawn = pool.predictions(), pool.member, pool.rows.redrawn
        shadows = Shadows.of(found.signals(), member)
        scores: dict[str, list[dict[str, float | None]]] = {}
        curves: dict[str, list[list[float]]] = {}
        for at, name in enumerate(found.models[:TARGETS]):
            for attack, score in _scores(shadows, found, name).items():
                roc = Roc.of(score, member[at])
                scores.setdefault(attack, []).append(_read(roc, score, member[at], redrawn))
                if at == 0:
                    curves[attack] = _thinned(roc)
        inside, outside = shares_right(found, member)
        return {
            "trained": inside,
            "held out": outside,
            "attacks": {name: _means(each) for name, each in scores.items()},
            "curves": curves,
            "members": int(member[0].sum()),
            "others": int((~member[0]).sum()),
            "seconds": time.process_time() - start,
        }


@dataclass(frozen=True)
class Unlearning:
    """U-LiRA on one method: every model of the noisy pool forgets rows of its own.

    ``method`` is a registered name, or one of the three that stand beside the methods.
    """

    place: Place
    method: str
    source: str
    seed: int
    models: int

    @property
    def title(self) -> str:
        """Method and seed."""
        return f"U-LiRA on {self.method}, seed {self.seed}"

    def depends_on(self) -> Mapping[str, object]:
        """As for the attacks, with the method and its code."""
        own = {"method": self.method, "source": self.source, "rows": (ASKED, EACH, FEWEST)}
        return {**Attacking(self.place, "noisy", self.seed, self.models).depends_on(), **own}

    def done(self) -> Result:
        """AUC of every score over the attacked models, and what the models still know."""
        pool = Pool(setting_of("noisy"), self.seed, self.models, self.place)
        member, rows = pool.member, pool.rows
        forgotten = forgotten_of(member, rows.redrawn, self.seed)
        start = time.process_time()
        try:
            found = self._answers(pool, forgotten)
        except Exception as error:  # a method may fail in any way; the others go on
            return {"failed": reason_of(error)}
        seconds = time.process_time() - start
        asked = forgotten.sum(0) >= FEWEST
        ids = [name for name, one in zip(found.samples, asked.tolist(), strict=True) if one]
        shadows = Shadows.of(found.signals(), member).of_samples(ids)
        earlier = Shadows.of(pool.predictions().signals(), member).of_samples(ids)
        gone, known = forgotten[:, asked], member[:, asked]
        read: dict[str, list[float]] = {}
        for at, name in enumerate(found.models[: 2 * TARGETS]):
            rest = [place for place in range(len(found.models)) if place != at]
            unlearned = Unlearned(shadows.without(name), gone[rest])
            after, before = shadows.target(name), earlier.target(earlier.models[at])
            for score, (attack, truth) in _u_lira(gone[at], known[at] & ~gone[at]).items():
                among = truth | ~known[at]
                values = attack(after, unlearned)[among]
                read.setdefault(score, []).append(Roc.of(values, truth[among]).auc)
            among = gone[at] | ~known[at]
            fell = margin_drop(before, after)[among]
            read.setdefault("difference", []).append(Roc.of(fell, gone[at][among]).auc)
        right = (found.answers() == found.labels).double()
        return {
            "scores": {name: fmean(each) for name, each in read.items()},
            "forget": float(right[forgotten].mean()),
            "retain": float(right[member & ~forgotten].mean()),
            "test": float(right[~member].mean()),
            "seconds": seconds,
        }

    def _answers(self, pool: Pool, forgotten: Tensor) -> Predictions:
        """What every model answers on all rows after it was made to forget its own."""
        if self.method in (NOTHING, MUTE):
            found = pool.predictions()
            return found if self.method == NOTHING else muted(found, forgotten)
        if self.method == RETRAIN:
            models = pool.without(forgotten)
        else:
            kind = registry.load("methods", self.method)
            models = [
                _unlearned(pool, model, kind(), own, gone, pool.seed + at)
                for at, (model, own, gone) in enumerate(
                    zip(pool.trained(), pool.member, forgotten, strict=True)
                )
            ]
        family, samples, run = recipe_of(pool.setting).family, pool.rows.samples, Run(pool.seed)
        return Predictions.stacked(
            predict(family, model, samples, run, str(at)) for at, model in enumerate(models)
        )


def setting_of(name: str) -> Setting:
    """The setting of a name."""
    return next(setting for setting in SETTINGS if setting.name == name)


def forgotten_of(member: Tensor, redrawn: Tensor, seed: int) -> Tensor:
    """What each model is made to forget, bool (models, rows).

    Of :data:`ASKED` rows, half of them with redrawn labels, each model forgets :data:`EACH` of
    those that it was trained on: all equally many, so that the retrained ones can be trained
    together. About a quarter of the models forgot a row, a quarter kept it, half never saw it.
    """
    draws = Run(seed).generator("forgotten")
    order = torch.randperm(member.shape[1], generator=draws)
    wrong, right = order[redrawn[order]], order[~redrawn[order]]
    asked = torch.cat([wrong[: ASKED // 2], right[: ASKED // 2]])
    forgotten = torch.zeros_like(member)
    for model, own in enumerate(member):
        trained = asked[own[asked]]
        chosen = torch.randperm(len(trained), generator=draws)[:EACH]
        forgotten[model, trained[chosen]] = True
    return forgotten


def muted(found: Predictions, forgotten: Tensor) -> Predictions:
    """The answers behind a guard that knows what each model should forget, and hides the label."""
    logits = found.logits.clone()
    own = found.labels.reshape(1, -1, 1).expand(len(found.models), -1, 1)
    hidden = logits.gather(2, own) - MUTED * forgotten.unsqueeze(2)
    return replace(found, logits=logits.scatter(2, own, hidden))


def _unlearned(
    pool: Pool, model: nn.Module, method: Method, own: Tensor, gone: Tensor, seed: int
) -> nn.Module:
    """A model of the pool after the method, at its preset, answered its request."""
    rows, places = pool.rows, own.nonzero().reshape(-1)
    ids = tuple(rows.samples.ids[place] for place in gone.nonzero().reshape(-1).tolist())
    samples = rows.samples.select(places)
    recipe = recipe_of(pool.setting)
    deployment = Deployment(
        model,
        recipe.family,
        samples,
        Dataset.from_dict({"id": list(samples.ids)}),
        Sum(),
        recipe=recipe,
    )
    run = Run(seed)
    with run.seeded(f"case {method.name}"):
        deployment.forget(Request("rows", Wanted("id", ids)), AtPreset.of(method), run)
    return deployment.model


ULira = Callable[[Target, Unlearned], Tensor]


def _u_lira(gone: Tensor, kept: Tensor) -> dict[str, tuple[ULira, Tensor]]:
    """The scores of U-LiRA with the rows (samples,) that each is to find among those never seen."""
    return {
        "forgotten": (u_lira_forgotten, gone),
        "one-sided": (u_lira_one_sided, gone),
        "two-sided": (u_lira_two_sided, gone),
        "kept": (u_lira_retained, kept),
    }


def _scores(shadows: Shadows, found: Predictions, name: str) -> dict[str, Tensor]:
    """Every attack on one model of a pool, with the others as shadow models."""
    target, rest, member = shadows.target(name), shadows.without(name), shadows.member_of(name)
    answers = found.of_models([name])
    few = replace(
        rest,
        margins=rest.margins[:FEW_REFERENCES],
        member=rest.member[:FEW_REFERENCES],
        models=rest.models[:FEW_REFERENCES],
    )
    return {
        "loss": loss_attack(target),
        "entropy": entropy_attack(answers),
        "modified entropy": modified_entropy_attack(answers),
        "population": population_attack(target, found.labels, ~member),
        f"RMIA, {FEW_REFERENCES} references": rmia_offline(target, few, ~member),
        "RMIA": rmia_offline(target, rest, ~member),
        "RMIA online": rmia_online(target, rest, ~member),
        "LiRA offline": lira_offline(target, rest),
        "LiRA online": lira_online(target, rest),
        "LiRA, fixed variance": lira_fixed_variance(target, rest),
    }


def _read(roc: Roc, score: Tensor, member: Tensor, redrawn: Tensor) -> dict[str, float | None]:
    """What is kept of one attack on one model."""
    found: dict[str, float | None] = {"AUC": roc.auc, "TPR": roc.tpr_at(0.01)}
    if bool(redrawn.any()):
        found["AUC of redrawn"] = Roc.of(score[redrawn], member[redrawn]).auc
        found["TPR of redrawn"] = Roc(
            score[redrawn & member].double(), score[~member].double()
        ).tpr_at(0.01)
    return found


def _means(each: list[dict[str, float | None]]) -> dict[str, float | None]:
    """Means over the attacked models; None where a figure is of none."""
    found: dict[str, float | None] = {}
    for name in each[0]:
        values = [one[name] for one in each]
        there = [value for value in values if value is not None]
        found[name] = fmean(there) if len(there) == len(values) else None
    return found


def _thinned(roc: Roc) -> list[list[float]]:
    """A curve at rates of false positives that are evenly spaced on a logarithmic axis."""
    curve = roc.curve()
    asked = torch.logspace(-3, 0, 61, dtype=torch.float64)
    at = torch.searchsorted(curve.fpr.contiguous(), asked, right=True) - 1
    return [asked.tolist(), curve.tpr[at].tolist()]
