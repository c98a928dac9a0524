"""The loss attack: one threshold on the loss for all samples; it needs no shadow models.

Yeom, Giacomelli, Fredrikson, Jha (2018). Privacy Risk in Machine Learning: Analyzing the Connection
to Overfitting, adversary 2.
"""

from torch import Tensor
from torch.nn.functional import logsigmoid

from expunge.attacks.shadows import Target


def loss_attack(target: Target) -> Tensor:
    """Minus the cross-entropy of the true class, mean over queries; larger = likelier member.

    With one query it orders the samples as the margin does: the loss is log(1 + exp(-margin)).

    Args:
        target: the margins of the model attacked.

    Returns:
        (samples,) float64 in nats, at most 0.
    """
    return logsigmoid(target.margins).mean(1)
