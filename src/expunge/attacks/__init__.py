"""Attacks on a removal: those that ask who was a member, and those that bring forgotten rows back.

Membership attacks are pure functions from margins to one score a sample, larger = likelier member;
none trains a model: shadow models are trained in :mod:`expunge.learning`, scores are read as an
:class:`expunge.signals.roc.Roc`. Relearning, quantisation and edit-off change a copy of the model.
"""

from expunge.attacks.difference import logit_change, margin_change, margin_drop, margin_drop_of
from expunge.attacks.edit_off import switchable, switched_off
from expunge.attacks.entropy import entropy_attack, modified_entropy_attack
from expunge.attacks.gaussian import Fit, Gaussian, fit_each, fit_shared
from expunge.attacks.iam import (
    Interpolation,
    residual_membership,
    residual_membership_without_original,
)
from expunge.attacks.lira import lira_fixed_variance, lira_offline, lira_online
from expunge.attacks.loss import loss_attack
from expunge.attacks.population import population_attack
from expunge.attacks.quantisation import quantised
from expunge.attacks.relearning import Relearning
from expunge.attacks.rmia import rmia_offline, rmia_online, tuned_offline_weight
from expunge.attacks.shadows import Shadows, Target, averaged_margins
from expunge.attacks.u_lira import (
    Unlearned,
    u_lira_against_retrained,
    u_lira_forgotten,
    u_lira_one_sided,
    u_lira_retained,
    u_lira_two_sided,
)

__all__ = [
    "Fit",
    "Gaussian",
    "Interpolation",
    "Relearning",
    "Shadows",
    "Target",
    "Unlearned",
    "averaged_margins",
    "entropy_attack",
    "fit_each",
    "fit_shared",
    "lira_fixed_variance",
    "lira_offline",
    "lira_online",
    "logit_change",
    "loss_attack",
    "margin_change",
    "margin_drop",
    "margin_drop_of",
    "modified_entropy_attack",
    "population_attack",
    "quantised",
    "residual_membership",
    "residual_membership_without_original",
    "rmia_offline",
    "rmia_online",
    "switchable",
    "switched_off",
    "tuned_offline_weight",
    "u_lira_against_retrained",
    "u_lira_forgotten",
    "u_lira_one_sided",
    "u_lira_retained",
    "u_lira_two_sided",
]
