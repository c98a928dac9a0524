"""U-LiRA: per-sample attacks on an unlearning method, from shadow models that unlearned too.

Hayes, Shumailov, Triantafillou, Khalifa, Papernot (2025). Inexact Unlearning Needs More Careful
Evaluations to Avoid a False Sense of Privacy. Each shadow model trains on a set of its own, forgets
a part of it with the method under test, and is asked then. Which distributions are compared is our
reading of the paper: those who forgot a sample against those who never saw it.
"""

from dataclasses import dataclass, replace
from typing import Self

from torch import Tensor

from expunge.attacks.gaussian import Fit, fit_each
from expunge.attacks.shadows import Shadows, Target, check_mask, check_same, need_models
from expunge.errors import ExpungeError
from expunge.signals.matrix import positions_of


@dataclass(frozen=True, eq=False)
class Unlearned:
    """Shadow models after each has unlearned a set of its own.

    Args:
        shadows: margins after unlearning; ``member`` is what each model trained on at first, what
            it forgot later included.
        forgotten: bool (models, samples), True where the model was made to forget the sample.

    Raises:
        ExpungeError: another shape, or a model forgot what it never trained on.
    """

    shadows: Shadows
    forgotten: Tensor

    def __post_init__(self) -> None:
        check_mask("forget mask", self.forgotten, self.shadows)
        strange = self.forgotten & ~self.shadows.member
        if bool(strange.any()):
            model, sample = (int(i) for i in strange.nonzero()[0])
            raise ExpungeError(
                f"The shadow model {self.shadows.models[model]!r} is said to have forgotten "
                f"{self.shadows.samples[sample]!r}, which it never trained on; a part of its "
                "training samples is expected."
            )

    @property
    def kept(self) -> Tensor:
        """Where a model trained on a sample and still may know it, bool (models, samples)."""
        return self.shadows.member & ~self.forgotten

    @property
    def never_seen(self) -> Tensor:
        """Where a model never trained on a sample, bool (models, samples)."""
        return ~self.shadows.member

    def of_samples(self, ids: tuple[str, ...]) -> Self:
        """These samples, in the given order.

        Raises:
            ExpungeError: an id is unknown, or none is given.
        """
        at = positions_of("sample", self.shadows.samples, ids)
        return replace(self, shadows=self.shadows.of_samples(ids), forgotten=self.forgotten[:, at])


def u_lira_forgotten(target: Target, unlearned: Unlearned, fit: Fit = fit_each) -> Tensor:
    """Whether a sample was forgotten or never seen; an AUC of 0.5 says the method removed it.

    Since both distributions are learned from the method itself, it also finds samples that were
    pushed below what a model says of samples it never saw.

    Args:
        target: margins of the unlearned model.
        unlearned: at least 2 models that forgot each sample and 2 that never saw it.
        fit: :func:`~expunge.attacks.gaussian.fit_each`, or ``fit_shared`` for few models.

    Returns:
        (samples,) float64: log N(margin; forgotten) - log N(margin; never seen), mean over queries;
        larger = likelier forgotten, which is to say once a member.

    Raises:
        ExpungeError: other samples than the shadows', or too few shadow models.
    """
    chosen = unlearned.forgotten
    need_models("U-LiRA", "forgot it", chosen, 2, unlearned.shadows.samples)
    return _beside_never_seen("U-LiRA", target, unlearned, chosen, fit)


def u_lira_retained(target: Target, unlearned: Unlearned, fit: Fit = fit_each) -> Tensor:
    """The same test for retained samples: unlearning others may expose them more than before.

    Read it beside LiRA on the model before unlearning.

    Args:
        target: margins of the unlearned model.
        unlearned: at least 2 models that trained on each sample and kept it, and 2 that never saw
            it.
        fit: :func:`~expunge.attacks.gaussian.fit_each`, or ``fit_shared`` for few models.

    Returns:
        (samples,) float64: log N(margin; kept) - log N(margin; never seen), mean over queries;
        larger = likelier member.

    Raises:
        ExpungeError: other samples than the shadows', or too few shadow models.
    """
    chosen = unlearned.kept
    attack = "U-LiRA on retained samples"
    need_models(attack, "trained on it and kept it", chosen, 2, unlearned.shadows.samples)
    return _beside_never_seen(attack, target, unlearned, chosen, fit)


def u_lira_against_retrained(
    target: Target, unlearned: Unlearned, retrained: Shadows, fit: Fit = fit_each
) -> Tensor:
    """Whether a sample was unlearned by the method or by retraining without it.

    Each retrained model trained on what the shadow model of the same place kept, so that it is OUT
    for what that one forgot.

    Args:
        target: margins of the unlearned model.
        unlearned: at least 2 models that forgot each sample.
        retrained: at least 2 models retrained without each sample, on the same samples; with 8
            models ``fit_shared`` is needed for stable variances.
        fit: :func:`~expunge.attacks.gaussian.fit_each` or ``fit_shared``.

    Returns:
        (samples,) float64: log N(margin; forgotten) - log N(margin; retrained without), mean over
        queries; larger = likelier forgotten by the method.

    Raises:
        ExpungeError: other samples than the shadows', or too few models.
    """
    attack = "U-LiRA against retrained models"
    known = unlearned.shadows
    known.check(target)
    check_same(target, retrained)
    need_models(attack, "forgot it", unlearned.forgotten, 2, known.samples)
    retrained.need(attack, inside=0, outside=2)
    found = fit(known.margins, unlearned.forgotten).log_density(target.margins)
    oracle = fit(retrained.margins, ~retrained.member).log_density(target.margins)
    return (found - oracle).mean(1)


def u_lira_one_sided(target: Target, unlearned: Unlearned, fit: Fit = fit_each) -> Tensor:
    """How far a margin is above those of models that never saw the sample, in their deviations.

    It asks whether something is left. A method that pushes the margin far below says nothing here:
    :func:`u_lira_two_sided` asks for that.

    Args:
        target: margins of the unlearned model.
        unlearned: at least 2 models that never saw each sample.
        fit: :func:`~expunge.attacks.gaussian.fit_each`, or ``fit_shared`` for few models.

    Returns:
        (samples,) float64 in standard deviations, mean over queries; larger = likelier member.

    Raises:
        ExpungeError: other samples than the shadows', or too few shadow models.
    """
    return _standardised("One-sided U-LiRA", target, unlearned, fit).mean(1)


def u_lira_two_sided(target: Target, unlearned: Unlearned, fit: Fit = fit_each) -> Tensor:
    """How far a margin is from those of models that never saw the sample, above or below.

    Arguments and errors are those of :func:`u_lira_one_sided`.

    Returns:
        (samples,) float64 in standard deviations, mean of absolute values over queries; larger =
        likelier once a member.
    """
    return _standardised("Two-sided U-LiRA", target, unlearned, fit).abs().mean(1)


def _beside_never_seen(
    attack: str, target: Target, unlearned: Unlearned, chosen: Tensor, fit: Fit
) -> Tensor:
    shadows = unlearned.shadows
    shadows.check(target)
    need_models(attack, "never saw it", unlearned.never_seen, 2, shadows.samples)
    found = fit(shadows.margins, chosen).log_density(target.margins)
    unseen = fit(shadows.margins, unlearned.never_seen).log_density(target.margins)
    return (found - unseen).mean(1)


def _standardised(attack: str, target: Target, unlearned: Unlearned, fit: Fit) -> Tensor:
    shadows = unlearned.shadows
    shadows.check(target)
    need_models(attack, "never saw it", unlearned.never_seen, 2, shadows.samples)
    return fit(shadows.margins, unlearned.never_seen).standardised(target.margins)
