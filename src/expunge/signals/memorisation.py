"""How much of an answer a model knows by heart: extraction strength and exact memorisation.

Carlini and others (2021), Extracting Training Data from Large Language Models, and Wang and others
(2025), Towards Effective Evaluations and Comparisons for LLM Unlearning Methods, for the strength;
Tirumala, Markosyan, Zettlemoyer, Aghajanyan (2022), Memorization Without Overfitting, for exact
memorisation. Both read which tokens are the most likely ones given the true tokens before them.
"""

import torch
from torch import Tensor

from expunge.families.abilities import UnitLosses
from expunge.signals.metric import Metric

EXTRACTION_STRENGTH = Metric(
    "extraction strength",
    "closer to the oracle",
    "mean over answers of 1 - k/n, k of n tokens having to be given for the rest to follow",
)
EXACT_MEMORISATION = Metric(
    "exact memorisation",
    "closer to the oracle",
    "mean over answers of the share of tokens that are the most likely ones",
)


def extraction_strength(hits: UnitLosses) -> Tensor:
    """``1 - k / n`` of each answer (rows,) float64: 1 known by heart, 0 the last token is missed.

    k is the length of the shortest beginning after which every token is the most likely one. The
    code of open-unlearning gives 1/n where the last token is missed; the definition says 0.

    Args:
        hits: (rows, U) 1 where a token is the most likely one; see
            :func:`~expunge.signals.ask.answers_of`.
    """
    missed = (hits.values == 0) & hits.mask
    places = torch.arange(1, missed.shape[1] + 1, device=missed.device)
    needed = (missed * places).amax(1)
    return 1 - needed.double() / hits.mask.sum(1).clamp(min=1)


def exact_memorisation(hits: UnitLosses) -> Tensor:
    """Share of the tokens of each answer (rows,) float64 that are the most likely ones."""
    return hits.means().double()
