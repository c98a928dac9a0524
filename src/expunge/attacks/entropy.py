"""The entropy attacks: a model is surer of what it trained on; they need no shadow models.

Song, Mittal (2021). Systematic Evaluation of Privacy Risks of Machine Learning Models, section 3.2:
the entropy of the prediction, and the modified entropy, which knows the label.
"""

from torch import Tensor

from expunge.errors import ExpungeError
from expunge.signals import Predictions, membership_features


def entropy_attack(target: Predictions) -> Tensor:
    """Minus the entropy of the prediction, whatever the label; larger = likelier member.

    A model that is sure of a wrong class scores as one that is sure of the right one.

    Args:
        target: predictions of one model.

    Returns:
        (samples,) float64 in nats, -log C to 0.

    Raises:
        ExpungeError: there are several models.
    """
    return -membership_features.entropy(_one(target))[0, :, 0]


def modified_entropy_attack(target: Predictions) -> Tensor:
    """Minus the modified entropy, which is least for the label with certainty (their equation 7).

    Args:
        target: predictions of one model.

    Returns:
        (samples,) float64 in nats, at most 0; larger = likelier member.

    Raises:
        ExpungeError: there are several models.
    """
    return -membership_features.modified_entropy(_one(target))[0, :, 0]


def _one(target: Predictions) -> Predictions:
    if len(target.models) != 1:
        raise ExpungeError(
            f"An entropy attack got {len(target.models)} models as its target; one is expected. "
            "Pick it with of_models."
        )
    return target
