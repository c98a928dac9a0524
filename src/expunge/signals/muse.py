"""VerbMem and KnowMem: a passage continued word by word, and questions about what it says.

Shi and others (2024). MUSE: Machine Unlearning Six-Way Evaluation for Language Models.
"""

from collections.abc import Sequence

from torch import Tensor

from expunge.signals.metric import Metric
from expunge.signals.rouge import rouge_l

VERBMEM = Metric(
    "VerbMem",
    "closer to the oracle",
    "mean ROUGE-L F1 of the greedy continuation of forgotten passages with the true one",
)
KNOWMEM = Metric(
    "KnowMem",
    "closer to the oracle",
    "mean ROUGE-L F1 of the greedy answers to questions with the true ones, after examples",
)

CONTINUED, ANSWERED = 128, 32
"""Tokens at most of a continuation, and of an answer."""

QUESTION, ANSWER = "Question: ", "Answer: "


def few_shot(question: str, examples: Sequence[tuple[str, str]]) -> str:
    """The prompt of KnowMem: examples of questions and answers, then the question."""
    shown = "".join(f"{QUESTION}{q}\n{ANSWER}{a}\n\n" for q, a in examples)
    return f"{shown}{QUESTION}{question}\n{ANSWER}"


def cut(answer: str) -> str:
    """An answer up to where the model goes on to ask a question of its own."""
    return answer.partition(QUESTION.strip())[0].strip()


def verbmem(continued: Sequence[str], true: Sequence[str]) -> Tensor:
    """ROUGE-L F1 of each continuation, (n,) float64; without stemming."""
    return rouge_l(continued, true, stem=False).f1


def knowmem(answered: Sequence[str], true: Sequence[str]) -> Tensor:
    """ROUGE-L F1 of each answer as :func:`cut` leaves it, (n,) float64; without stemming."""
    return rouge_l([cut(answer) for answer in answered], true, stem=False).f1
