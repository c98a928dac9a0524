"""Shadows: margins of models whose training rows are known, and the target that is attacked.

Carlini, Chien, Nasr, Song, Terzis, Tramèr (2022). Membership Inference Attacks From First
Principles: the margin is their logit-scaled confidence (section VI-B), its columns are the
augmentations of a sample that are asked (section VI-D). A shadow model is IN for the samples it
trained on and OUT for all others.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from expunge.errors import ExpungeError
from expunge.signals import Signals
from expunge.signals.matrix import first_repeated, positions_of


@dataclass(frozen=True, eq=False)
class Target:
    """The margins of the one model that is attacked.

    Args:
        margins: float64 (samples, queries), finite, in nats.
        samples: stable ids along the first axis, each once.
        model: its name.

    Raises:
        ExpungeError: no sample or query, shapes that do not fit, a repeated id, or a margin that is
            not finite.
    """

    margins: Tensor
    samples: tuple[str, ...]
    model: str = "target"

    def __post_init__(self) -> None:
        _check_margins(self.margins.unsqueeze(0), (self.model,), self.samples)

    @classmethod
    def of(cls, signals: Signals, augmented: Sequence[Signals] = ()) -> Self:
        """The target whose margins these signals of one model hold.

        Args:
            signals: of one model, with the query ``margin``.
            augmented: the same model's on augmented samples, one more column each.

        Raises:
            ExpungeError: several models, other samples among the augmented, or no finite margins.
        """
        if len(signals.models) != 1:
            raise ExpungeError(
                f"A membership attack got {len(signals.models)} models as its target; one is "
                "expected. Pick it with of_models."
            )
        margins = _columns(signals, augmented)
        return cls(margins[0], signals.samples, signals.models[0])

    def of_samples(self, ids: Iterable[str]) -> Self:
        """These samples, in the given order.

        Raises:
            ExpungeError: an id is unknown, or none is given.
        """
        at = positions_of("sample", self.samples, ids)
        return replace(self, margins=self.margins[at], samples=tuple(self.samples[i] for i in at))


@dataclass(frozen=True, eq=False)
class Shadows:
    """The margins of shadow models and the samples that each trained on.

    Args:
        margins: float64 (models, samples, queries), finite, in nats.
        member: bool (models, samples), True where the model trained on the sample.
        samples: stable ids along the second axis, each once.
        models: names along the first axis, each once.

    Raises:
        ExpungeError: nothing along one axis, shapes that do not fit, a repeated name, or a margin
            that is not finite.
    """

    margins: Tensor
    member: Tensor
    samples: tuple[str, ...]
    models: tuple[str, ...]

    def __post_init__(self) -> None:
        _check_margins(self.margins, self.models, self.samples)
        check_mask("membership", self.member, self)

    @classmethod
    def of(cls, signals: Signals, member: Tensor, augmented: Sequence[Signals] = ()) -> Self:
        """The shadows whose margins these signals hold.

        Args:
            signals: of all shadow models, with the query ``margin``.
            member: bool (models, samples), True where the model trained on the sample.
            augmented: the same models' on augmented samples, one more column each.

        Raises:
            ExpungeError: other models or samples among the augmented, a membership of another
                shape, or margins that are not finite.
        """
        margins = _columns(signals, augmented)
        return cls(margins, member.cpu(), signals.samples, signals.models)

    def without(self, model: str) -> Self:
        """All other models: the shadows that attack this one.

        Raises:
            ExpungeError: the model is unknown, or the only one.
        """
        (out,) = positions_of("model", self.models, [model])
        left = [i for i in range(len(self.models)) if i != out]
        return replace(
            self,
            margins=self.margins[left],
            member=self.member[left],
            models=tuple(self.models[i] for i in left),
        )

    def target(self, model: str) -> Target:
        """One of the models as the target; attack it with the shadows :meth:`without` it.

        Raises:
            ExpungeError: the model is unknown.
        """
        (at,) = positions_of("model", self.models, [model])
        return Target(self.margins[at], self.samples, model)

    def member_of(self, model: str) -> Tensor:
        """What one model trained on, bool (samples,).

        Raises:
            ExpungeError: the model is unknown.
        """
        (at,) = positions_of("model", self.models, [model])
        return self.member[at]

    def of_samples(self, ids: Iterable[str]) -> Self:
        """These samples, in the given order.

        Raises:
            ExpungeError: an id is unknown, or none is given.
        """
        at = positions_of("sample", self.samples, ids)
        return replace(
            self,
            margins=self.margins[:, at],
            member=self.member[:, at],
            samples=tuple(self.samples[i] for i in at),
        )

    def check(self, target: Target) -> None:
        """Refuse a target that was asked for other samples, or is one of the shadow models.

        Raises:
            ExpungeError: ids, their order or the number of queries differ, or the target is among
                the shadows.
        """
        check_same(target, self)
        if target.model in self.models:
            raise ExpungeError(
                f"The target {target.model!r} is one of the shadow models that attack it; other "
                "models are expected. Take Shadows.without it, or give it a name of its own."
            )

    def need(self, attack: str, inside: int, outside: int) -> None:
        """Refuse an attack that these models are too few for.

        Raises:
            ExpungeError: a sample has fewer IN or OUT models than the attack needs.
        """
        need_models(attack, "trained on it", self.member, inside, self.samples)
        need_models(attack, "did not train on it", ~self.member, outside, self.samples)


def averaged_margins(margins: Tensor) -> Tensor:
    """Margins of the mean probability over stochastic passes (dropout, say), in nats.

    Probabilities are averaged, not margins, since one pass that rules the class out must not
    decide. Different augmentations stay apart as queries.

    Args:
        margins: (..., passes) in nats.

    Returns:
        (...) float64: log(mean p) - log(mean (1 - p)).
    """
    found = margins.double()
    return logsigmoid(found).logsumexp(-1) - logsigmoid(-found).logsumexp(-1)


def need_models(
    attack: str, which: str, chosen: Tensor, least: int, samples: tuple[str, ...]
) -> None:
    """Refuse an attack if a sample has fewer than ``least`` of the chosen models.

    Args:
        attack: its name.
        which: what the chosen models have in common, such as "trained on it".
        chosen: bool (models, samples).
        least: models needed for every sample.
        samples: ids.

    Raises:
        ExpungeError: it says how many there are and how many are needed.
    """
    counts = chosen.sum(0)
    if int(counts.min()) < least:
        at = int(counts.argmin())
        raise ExpungeError(
            f"{attack} got {len(chosen)} shadow models; for the sample {samples[at]!r} "
            f"{int(counts[at])} of them {which}, and at least {least} are expected for every "
            "sample. Train more shadow models, or ask for fewer samples."
        )


def check_same(found: Target, known: Target | Shadows) -> None:
    """Refuse to hold a target against margins of other samples or with other queries.

    Raises:
        ExpungeError: ids, their order or the number of queries differ.
    """
    if found.samples != known.samples:
        others = set(found.samples) ^ set(known.samples)
        what = f"{min(others)!r} is in one only" if others else "their order differs"
        raise ExpungeError(
            f"A membership attack got {len(found.samples)} samples of {found.model!r} and "
            f"{len(known.samples)} to hold them against; the same ones in the same order are "
            f"expected, but {what}. Ask all models for the same samples."
        )
    if found.margins.shape[-1] != known.margins.shape[-1]:
        raise ExpungeError(
            f"A membership attack got {found.margins.shape[-1]} queries of {found.model!r} and "
            f"{known.margins.shape[-1]} to hold them against; equally many are expected. Ask all "
            "models for the same augmentations."
        )


def check_mask(what: str, mask: Tensor, known: Shadows) -> None:
    """Refuse a mask that is not bool (models, samples).

    Raises:
        ExpungeError: another type or shape.
    """
    expected = (len(known.models), len(known.samples))
    if mask.dtype != torch.bool or tuple(mask.shape) != expected:
        raise ExpungeError(
            f"The shadow models got a {what} of {mask.dtype} and shape {tuple(mask.shape)}; bool "
            f"of shape {expected}, (models, samples), is expected."
        )


def _columns(signals: Signals, augmented: Sequence[Signals]) -> Tensor:
    """Margins (models, samples, 1 + augmented), float64."""
    for other in augmented:
        if (other.models, other.samples) != (signals.models, signals.samples):
            raise ExpungeError(
                "A membership attack got augmented samples with other models or ids; the same ones "
                "in the same order are expected. Keep an augmented sample's id."
            )
    return torch.stack([each.query("margin").double() for each in (signals, *augmented)], dim=-1)


def _check_margins(margins: Tensor, models: tuple[str, ...], samples: tuple[str, ...]) -> None:
    fits = margins.dim() == 3 and tuple(margins.shape[:2]) == (len(models), len(samples))
    if not fits or margins.dtype != torch.float64 or 0 in margins.shape:
        raise ExpungeError(
            f"A membership attack got {margins.dtype} margins of shape {tuple(margins.shape)} for "
            f"{len(models)} models and {len(samples)} samples; float64 (models, samples, queries) "
            "with at least one of each is expected."
        )
    for axis, names in (("model", models), ("sample", samples)):
        if repeated := first_repeated(names):
            raise ExpungeError(
                f"A membership attack got the {axis} {repeated!r} twice; each name is expected "
                "once. Rename it, or drop the second."
            )
    finite = margins.isfinite()
    if not bool(finite.all()):
        model, sample, query = (int(i) for i in (~finite).nonzero()[0])
        raise ExpungeError(
            f"A membership attack got the margin {float(margins[model, sample, query])} of sample "
            f"{samples[sample]!r} under model {models[model]!r}; finite numbers are expected. The "
            "model has diverged, or gives a class the score -inf."
        )
