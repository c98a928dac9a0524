"""Rows about strangers: the questions of given rows about subjects that nobody has heard of.

A stranger is put together of tokens of subjects that the model knows, as the name of somebody
unknown is made of names that it has met.
"""

from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor

from expunge.data.encoding import answer_tokens, padded
from expunge.data.samples import TensorSamples
from expunge.errors import ExpungeError
from expunge.run import Run
from expunge.signals.causal_tracing import Fact
from expunge.signals.self_extraction import Question, Subject

TRIES = 64
"""Strangers of whom one is drawn."""


def question_of(fact: Fact) -> tuple[Question, Subject]:
    """What is asked, and about whom."""
    start, stop = fact.subject
    tokens = tuple(fact.prompt.tolist())
    return Question(tokens[:start], tokens[stop:]), tokens[start:stop]


def put_together(known: Sequence[Subject], draws: torch.Generator) -> list[Subject]:
    """Up to :data:`TRIES` subjects, each token of which is that of a known one at its place; the
    known ones are of one length."""
    if len(known) < 2:
        return []
    width = len(known[0])
    rows = torch.randint(len(known), (TRIES, width), generator=draws).tolist()
    return [tuple(known[row][place] for place, row in enumerate(one)) for one in rows]


def halved(known: Sequence[Subject], draws: torch.Generator) -> list[Subject]:
    """Up to :data:`TRIES` subjects, each the beginning of a known one and the end of another; for
    known ones of any lengths."""
    if len(known) < 2:
        return []
    pairs = torch.randint(len(known), (TRIES, 2), generator=draws).tolist()
    halves = [(known[one], known[other]) for one, other in pairs]
    return [(*one[: (len(one) + 1) // 2], *other[len(other) // 2 :]) for one, other in halves]


def unlike(
    candidates: Sequence[Subject], subject: Subject, taken: Collection[Subject]
) -> list[Subject]:
    """Those that are nobody known and share no token with a subject."""
    return [one for one in candidates if one not in taken and not set(one) & set(subject)]


def strangers(
    subjects: Sequence[Subject], known: Sequence[Subject], run: Run
) -> Mapping[Subject, Subject]:
    """For each subject somebody whom nobody knows, with which it shares no token.

    Raises:
        ExpungeError: too few are known to put one together.
    """
    draws, chosen = run.generator("strangers"), dict[Subject, Subject]()
    for subject in subjects:
        taken = {*subjects, *known, *chosen.values()}
        alike = [one for one in known if len(one) == len(subject)]
        fitting = unlike(put_together(alike, draws), subject, taken) or unlike(
            halved(known, draws), subject, taken
        )
        if not fitting:
            raise ExpungeError(
                f"No stranger could be put together of the {len(known)} subjects of the retain "
                f"rows that shares no token with one of {len(subject)} tokens that is to be "
                "forgotten; retain rows about more subjects are expected."
            )
        chosen[subject] = fitting[0]
    return chosen


def about_others(
    ids: Sequence[str],
    facts: Sequence[Fact],
    labels: Tensor,
    instead: Mapping[Subject, Subject],
) -> TensorSamples:
    """The same questions with the same answers about other subjects.

    Args:
        ids: of the rows.
        facts: their prompts.
        labels: (n, L), their answers.
        instead: the other subject of each.
    """
    rows = []
    for fact, own in zip(facts, answer_tokens(labels), strict=True):
        question, subject = question_of(fact)
        rows.append((question.about(instead[subject]), own.tolist()))
    return rows_of(ids, rows)


def rows_of(ids: Sequence[str], rows: Sequence[tuple[list[int], list[int]]]) -> TensorSamples:
    """Samples of prompts and answers."""
    columns = padded([prompt for prompt, _ in rows], [answer for _, answer in rows])
    return TensorSamples(list(ids), list(ids), columns)
