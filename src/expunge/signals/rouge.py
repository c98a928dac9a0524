"""ROUGE-L: the longest common subsequence of words of a given and of the expected text.

Lin (2004). ROUGE: A Package for Automatic Evaluation of Summaries. Computed by the library
``rouge-score``, which the published figures of TOFU and MUSE come from. Texts are lower-cased, and
what is neither an ASCII letter nor a digit divides words: a text in another script scores 0.
TOFU takes the recall with Porter's stemmer, MUSE the F1 without it, LUME the recall without it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from expunge.errors import ExpungeError
from expunge.signals.metric import Metric

ROUGE_RECALL = Metric(
    "ROUGE-L recall",
    "closer to the oracle",
    "share of the words of the expected answer that the generated one has in their order",
)


@dataclass(frozen=True, eq=False)
class RougeL:
    """Recall and F1 of each text, (n,) float64 in [0, 1]."""

    recall: Tensor
    f1: Tensor


def rouge_l(found: Sequence[str], expected: Sequence[str], *, stem: bool) -> RougeL:
    """ROUGE-L of each generated text against the expected one.

    Args:
        found: n generated texts.
        expected: n texts.
        stem: words of more than three letters are reduced to their stems first.

    Raises:
        ExpungeError: numbers of texts differ, there is none, or the library is not installed.
    """
    if len(found) != len(expected) or not found:
        raise ExpungeError(
            f"ROUGE-L got {len(found)} generated and {len(expected)} expected texts; as many of "
            "each, at least one, are expected."
        )
    scorer = _scorer(stem)
    scores = [
        scorer.score(right, given)["rougeL"] for given, right in zip(found, expected, strict=True)
    ]
    return RougeL(
        torch.tensor([score.recall for score in scores], dtype=torch.float64),
        torch.tensor([score.fmeasure for score in scores], dtype=torch.float64),
    )


@cache
def _scorer(stem: bool) -> Any:
    try:
        library = import_module("rouge_score.rouge_scorer")
    except ModuleNotFoundError:
        raise ExpungeError(
            "ROUGE-L needs the package rouge-score, which is not installed; install it: "
            "pip install rouge-score."
        ) from None
    return library.RougeScorer(["rougeL"], use_stemmer=stem)
