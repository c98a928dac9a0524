"""What a model knows about subjects like some given ones, taken out of the model itself.

Where no retain data are left, the model is asked the questions of the forget rows about other
subjects: of a known one, each token is replaced by others whose embeddings are near, and a subject
at which the model is as sure of its answer as at those it was trained on is taken for another that
it knows, and searched from in its turn. What comes out is no training row: the answers are the
model's own, right or wrong. (Compare Carlini et al. 2021. Extracting Training Data from Large
Language Models: sure answers are a trace of memorised ones.)
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from expunge.families.language import input_embedding
from expunge.models.modes import evaluating
from expunge.run import Run, on_device

Subject = tuple[int, ...]
"""The tokens of a subject."""

AT_ONCE = 512
"""Prompts that the model reads at a time."""


@dataclass(frozen=True)
class Question:
    """What is asked about a subject: the tokens before it and behind it."""

    before: tuple[int, ...]
    behind: tuple[int, ...]

    def about(self, subject: Subject) -> list[int]:
        """The prompt."""
        return [*self.before, *subject, *self.behind]


@dataclass(frozen=True)
class Search:
    """How far is searched.

    Args:
        neighbours: tokens tried in the place of each token of a subject.
        rounds: how often it is searched from what was found last.
        sure: share of the answers to all questions about the given subjects that are less sure than
            an answer has to be to be taken for known, too.
        questions: how many questions have to be answered so surely, one after another.
        most: subjects found at most.
    """

    neighbours: int = 128
    rounds: int = 4
    sure: float = 0.1
    questions: int = 3
    most: int = 512


@dataclass(frozen=True)
class Extracted:
    """The subjects that a model seems to know, the surest first, and some that it does not.

    Args:
        known: neither the given ones nor each other's repetition.
        unknown: subjects near the given ones at which it is least sure.
        asked: prompts that the model read.
    """

    known: tuple[Subject, ...]
    unknown: tuple[Subject, ...]
    asked: int


@dataclass
class _Asker:
    """Asks one model, and counts."""

    model: nn.Module
    run: Run
    asked: int = 0
    seen: dict[tuple[Question, Subject], float] = field(default_factory=dict)

    def sureness(self, question: Question, subjects: Sequence[Subject]) -> Tensor:
        """The log-probability (n,) of the most likely token after the question."""
        by_length: dict[int, list[Subject]] = {}
        for one in dict.fromkeys(subjects):
            if (question, one) not in self.seen:
                by_length.setdefault(len(one), []).append(one)
        for group in by_length.values():
            for start in range(0, len(group), AT_ONCE):
                part = group[start : start + AT_ONCE]
                ids = torch.tensor([question.about(one) for one in part], device=self.run.device)
                with torch.inference_mode(), self.run.autocast():
                    logits = self.model(input_ids=ids, use_cache=False).logits[:, -1].float()
                best = logits.log_softmax(1).amax(1).tolist()
                self.seen.update({(question, one): s for one, s in zip(part, best, strict=True)})
                self.asked += len(part)
        return torch.tensor([self.seen[question, one] for one in subjects])


def extracted(
    model: nn.Module,
    questions: Sequence[Question],
    subjects: Sequence[Subject],
    run: Run,
    search: Search | None = None,
) -> Extracted:
    """Search from subjects that the model was trained on.

    Args:
        model: a decoder of ``transformers``.
        questions: those that it was trained to answer about each subject; one or more.
        subjects: the tokens of each, one or more.
        run: device and random numbers: the order of the questions.
        search: how far.
    """
    search = search or Search()
    draws = run.generator("self extraction")
    order = torch.randperm(len(questions), generator=draws)[: search.questions].tolist()
    asked_about = [questions[i] for i in order]
    with evaluating(on_device(model, run)) as asked:
        asker = _Asker(asked, run)
        given_answers = torch.cat([asker.sureness(q, subjects) for q in questions])
        level = float(given_answers.quantile(search.sure))
        near = _near(asked, search.neighbours)
        given = set(subjects)
        found: dict[Subject, float] = {}
        seeds, tried = list(dict.fromkeys(subjects)), set(given)
        for _ in range(search.rounds):
            tries = [one for one in dict.fromkeys(_changed(seeds, near)) if one not in tried]
            tried.update(tries)
            seeds = _passed(tries, asked_about, level, asker)
            for one in seeds:
                found[one] = sum(asker.seen[q, one] for q in asked_about)
            if not seeds or len(found) >= search.most:
                break
        first = asked_about[0]
        others = [s for q, s in asker.seen if q == first and s not in found and s not in given]
    known = sorted(found, key=lambda one: (-found[one], one))[: search.most]
    unknown = sorted(others, key=lambda one: (asker.seen[first, one], one))
    return Extracted(tuple(known), tuple(unknown), asker.asked)


def _passed(
    tries: Sequence[Subject], questions: Sequence[Question], level: float, asker: _Asker
) -> list[Subject]:
    """Those at which the model is sure of the answer to every question; each is asked only about
    what is left."""
    left = list(tries)
    for question in questions:
        sure = asker.sureness(question, left)
        left = [one for one, s in zip(left, sure.tolist(), strict=True) if s >= level]
    return left


def _changed(subjects: Iterable[Subject], near: "_Near") -> Iterable[Subject]:
    """Every subject with one token replaced by one near it."""
    for subject in subjects:
        for place, token in enumerate(subject):
            for other in near[token]:
                yield (*subject[:place], other, *subject[place + 1 :])


class _Near:
    """The tokens whose input embeddings point most nearly the same way as a token's."""

    def __init__(self, table: Tensor, count: int) -> None:
        self.table, self.count = F.normalize(table.float(), dim=1), min(count, len(table) - 1)
        self.known: dict[int, list[int]] = {}

    def __getitem__(self, token: int) -> Sequence[int]:
        if token not in self.known:
            like = self.table @ self.table[token]
            like[token] = -2.0
            self.known[token] = like.topk(self.count).indices.tolist()
        return self.known[token]


def _near(model: nn.Module, count: int) -> _Near:
    table = input_embedding(model).weight
    assert isinstance(table, Tensor)
    return _Near(table.detach(), count)
