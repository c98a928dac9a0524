"""What each concept adds to the score of a class: integrated gradients, by Captum.

Sundararajan, Taly, Yan (2017). Axiomatic Attribution for Deep Networks. Along the straight line
from a baseline s' to the scores s,

    IG_j = (s_j - s'_j) int_0^1 d g_c / d s_j (s' + t (s - s')) dt,

and the sum over j is g_c(s) - g_c(s'). For a linear g it is W_cj (s_j - s'_j).

With the mean score as the baseline, what is attributed to a class sums to what its logit has ahead
of that of the mean row; from a row of zeros, the absence of a concept and that of everything would
be one.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from expunge.errors import ExpungeError

AT_ONCE = 512
"""Rows whose integrals are taken at a time."""

Scorer = Callable[[Tensor], Tensor]
"""From concept scores (n, N) to one score a class (n, C), differentiable."""


def integrated_gradients(
    scorer: Scorer, scores: Tensor, baseline: Tensor, classes: Tensor, steps: int
) -> Tensor:
    """What each concept of each row adds to the score of the row's class.

    Args:
        scorer: g, which answers each row for itself.
        scores: (n, N) float.
        baseline: (N,) where every path begins.
        classes: int64 (n,) columns of the scorer's answer.
        steps: points of the Gauss-Legendre rule.

    Returns:
        (n, N), of the type of the scores.

    Raises:
        ExpungeError: fewer than one step, or shapes that do not fit.
    """
    if steps < 1 or scores.shape[1:] != baseline.shape or len(classes) != len(scores):
        raise ExpungeError(
            f"Integrated gradients got {steps} steps, scores {tuple(scores.shape)}, a baseline "
            f"{tuple(baseline.shape)} and {len(classes)} classes; at least one step, one baseline "
            "for each concept and one class for each row are expected."
        )
    from captum.attr import IntegratedGradients

    def summed(at: Tensor, columns: Tensor) -> Tensor:
        """Rows do not meet in the scorer: the gradient of their sum holds that of each, and is
        found much sooner than one row after the other."""
        return scorer(at).gather(1, columns.unsqueeze(1)).sum().reshape(1)

    engine = IntegratedGradients(summed)
    found = []
    with torch.enable_grad():
        for begin in range(0, len(scores), AT_ONCE):
            rows = slice(begin, begin + AT_ONCE)
            at = scores[rows].detach().clone().requires_grad_(True)
            start = baseline.expand_as(at).clone()
            found.append(
                engine.attribute(
                    at,
                    start,
                    additional_forward_args=classes[rows],
                    n_steps=steps,
                    method="gausslegendre",
                ).detach()
            )
    return torch.cat(found) if found else torch.zeros_like(scores)
