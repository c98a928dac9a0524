"""The world of the benchmark: the pretrained model, what it knows, who is forgotten and who stays.

Every subject belongs to one half by its name: rates were looked for on requests of one half, and
figures are of the other. Beside the subjects of a request stand those that are easily confused
with them (neighbouring countries, people of the same calling) and others; of both a part is
rehearsed, and a part is only asked about.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Literal

import datasets
import torch
from torch import Tensor, nn

from expunge.aggregation.sum import Sum
from expunge.audit.case import digest_of_rooms
from expunge.benchmarks.real_facts.questions import (
    LANGUAGES,
    Fact,
    Name,
    Question,
    drawn,
    facts_of,
    foreign_questions,
    names_nobody_has,
    reversed_questions,
    strangers,
)
from expunge.data.catalogue import at_hand
from expunge.data.encoding import padded
from expunge.data.mapping import Columns
from expunge.data.prompts import refusals_of
from expunge.data.samples import ROW, TensorSamples, batches
from expunge.deployment import Deployment
from expunge.descent.factors import linear_layers
from expunge.errors import ExpungeError
from expunge.families.language import Language
from expunge.models.checkpoint import Checkpoint
from expunge.models.modes import evaluating
from expunge.requests import Request, Rows
from expunge.run import Run

MODEL = "smollm2-135m"
CODE = (
    "changes",
    "data",
    "descent",
    "families",
    "methods",
    "models",
    "signals",
    "benchmarks/real_facts",
)
"""Rooms that results depend on."""

AT_ONCE = 32
"""Rows that a model is asked at a time."""

SURE = 3
"""Wordings of a fact, of four, in which its answer is chosen by a model that knows it; those that
are trained among them."""

Part = Literal["development", "reported"]


@dataclass(frozen=True)
class Size:
    """How much is asked.

    Args:
        candidates: subjects of a topic whose facts the model is asked for at most.
        forget: subjects of a request.
        rehearsed: subjects near the request, and as many others, that are trained on.
        held_out: the same that are only asked about, at most.
        names: invented subjects for each forgotten fact.
        texts: descriptions whose perplexity is taken.
        first: layers before this one do not move, nor do the embeddings.
        steps: of every method.
        relearning: steps of relearning.
    """

    candidates: int = 168
    forget: int = 10
    rehearsed: int = 8
    held_out: int = 10
    names: int = 2
    texts: int = 16
    first: int = 15
    steps: int = 16
    relearning: int = 8


@dataclass(frozen=True)
class Answers:
    """What a model answers to n questions.

    Args:
        chosen: whether the true answer is the likeliest of the eight by its first token.
        exact: whether every token of it is the likeliest of all.
        log_probability: of the whole answer, per token, in nats.
    """

    chosen: Tensor
    exact: Tensor
    log_probability: Tensor


@dataclass(frozen=True)
class Groups:
    """The facts of one request and those beside it; no subject is in two of them."""

    forget: tuple[Fact, ...]
    near: tuple[Fact, ...]
    near_held_out: tuple[Fact, ...]
    far: tuple[Fact, ...]
    far_held_out: tuple[Fact, ...]

    @property
    def rehearsed(self) -> tuple[Fact, ...]:
        """Those that are trained on beside the request."""
        return self.near + self.far


def half(subject: str) -> Part:
    """The half that a subject belongs to."""
    return "reported" if drawn(subject)[0] % 2 else "development"


def grouped(known: Sequence[Fact], part: Part, size: Size) -> Groups:
    """A request for subjects of one half, and who stands beside it.

    Args:
        known: facts that the model knows.
        part: the half whose subjects are forgotten; those near them may be of the other.
        size: how many.

    Raises:
        ExpungeError: too few are known.
    """
    subjects = sorted({fact.subject for fact in known}, key=drawn)
    beside = {fact.subject: set(fact.near) & set(subjects) for fact in known}
    own = [name for name in subjects if half(name) == part]
    forgotten = [name for name in own if beside[name]][: size.forget]
    close = (
        set().union(*(beside[name] for name in forgotten)) - set(forgotten) if forgotten else set()
    )
    near = [name for name in subjects if name in close]
    far = [name for name in own if name not in close | set(forgotten)]
    half_near = min(size.rehearsed, len(near) // 2)  # at least as many are only asked about
    half_far = min(size.rehearsed, len(far) // 2)
    if len(forgotten) < size.forget or not half_near or not half_far:
        raise ExpungeError(
            f"The model knows {len(own)} subjects of the half {part!r}, of which {len(forgotten)} "
            f"have a known neighbour; {size.forget}, and others beside them, are expected. Ask for "
            "fewer, or about more candidates."
        )

    def facts(names: Sequence[str]) -> tuple[Fact, ...]:
        return tuple(fact for name in names for fact in known if fact.subject == name)

    return Groups(
        facts(forgotten),
        facts(near[:half_near]),
        facts(near[half_near : half_near + size.held_out]),
        facts(far[:half_far]),
        facts(far[half_far : half_far + size.held_out]),
    )


class Asker:
    """The pretrained model with its tokenizer: questions become rows, and rows answers."""

    def __init__(self) -> None:
        self.checkpoint = Checkpoint.open(at_hand(MODEL).folder)
        self._firsts: dict[str, int] = {}

    @cached_property
    def family(self) -> Language:
        """With refusals, whose end is left out as it is from every answer."""
        found = refusals_of(None, "The capital of France is", _COLUMNS, self.checkpoint)
        return Language(tuple(answer[:-1] for answer in found))

    def model(self, first: int) -> nn.Module:
        """The model, of which the layers from ``first`` on may move."""
        model = self.checkpoint.model().requires_grad_(False)
        for layer in self._layers(model)[first:]:
            layer.requires_grad_(True)
        return model

    def moved_layers(self, model: nn.Module) -> tuple[str, ...]:
        """Names of the linear layers whose weights may move."""
        return tuple(
            name
            for name in linear_layers(model)
            if all(p.requires_grad for p in model.get_submodule(name).parameters())
        )

    def first(self, answer: str) -> int:
        """The first token of an answer."""
        if answer not in self._firsts:
            lines = self.checkpoint.lines(["Answer:"], [answer], " ", False)
            self._firsts[answer] = lines.answers[0][0]
        return self._firsts[answer]

    def rows(self, questions: Sequence[Question]) -> TensorSamples:
        """Prompt and true answer of every question, without a token that ends it: nothing but the
        fact is forgotten and scored."""
        return self._lines(
            [q.id for q in questions],
            [q.subject for q in questions],
            [q.prompt for q in questions],
            [q.answer for q in questions],
        )

    def texts(self, name: Name, count: int) -> TensorSamples:
        """Descriptions that have nothing to do with a topic: of people, or of places."""
        other = "wordnet-people" if name == "capitals" else "wordnet-places"
        table = at_hand(other).load()
        found = sorted(zip(table["id"], table["text"], strict=True), key=lambda row: drawn(row[0]))
        ids = [row[0] for row in found[:count]]
        return self._lines(ids, ids, [""] * len(ids), [row[1] for row in found[:count]])

    def _lines(
        self,
        ids: Sequence[str],
        subjects: Sequence[str],
        prompts: Sequence[str],
        answers: Sequence[str],
    ) -> TensorSamples:
        lines = self.checkpoint.lines(prompts, answers, " " if any(prompts) else "", False)
        columns = padded(lines.prompts, lines.unended, self.checkpoint.padding)
        return TensorSamples(list(ids), list(subjects), columns)

    def answers(self, model: nn.Module, questions: Sequence[Question], run: Run) -> Answers:
        """What a model answers; it stays as it is."""
        rows = self.rows(questions)
        options = torch.tensor([[self.first(o) for o in q.options] for q in questions])
        found: list[tuple[Tensor, Tensor, Tensor]] = []
        with evaluating(model) as asked, torch.inference_mode(), run.autocast():
            for batch in batches(rows, AT_ONCE):
                tokens = self.family.answers(asked, batch)
                begun = tokens.values[tokens.places == 0].gather(1, options[batch[ROW]])
                losses = tokens.losses()
                missed = tokens.units((~tokens.hits()).float()).sums()
                found.append((begun.argmax(1) == 0, missed == 0, -losses.means()))
        return Answers(*(torch.cat(part) for part in zip(*found, strict=True)))

    def perplexity(self, model: nn.Module, texts: TensorSamples, run: Run) -> float:
        """``exp`` of the mean loss per token, but for the first token of each text."""
        total, count = 0.0, 0
        with evaluating(model) as asked, torch.inference_mode(), run.autocast():
            for batch in batches(texts, AT_ONCE):
                losses = self.family.losses(asked, batch)
                total += float(losses.sums().double().sum())
                count += int(losses.mask.sum())
        return float(torch.tensor(total / count).exp())

    def _layers(self, model: nn.Module) -> list[nn.Module]:
        taps = self.family.anatomy(model).taps
        return [model.get_submodule(name) for name in taps.values()]


_COLUMNS = Columns(prompt="prompt", answer="answer", separator=" ")


@cache
def asker() -> Asker:
    """The one of this process."""
    return Asker()


@cache
def topic(name: Name, candidates: int) -> tuple[Fact, ...]:
    """The facts of a topic that the model is asked for."""
    return tuple(facts_of(name, asker().first, candidates))


@dataclass(frozen=True)
class Place:
    """Where a job stands: one request for facts of one topic.

    Args:
        name: of the topic.
        part: the half whose subjects are forgotten.
        size: how much.
        known: ids of the facts that the model knows.
        other: ids of some facts of the other topic that it knows.
    """

    name: Name
    part: Part
    size: Size
    known: tuple[str, ...]
    other: tuple[str, ...]

    def facts(self) -> dict[str, object]:
        """What a result depends on."""
        return {**vars(self), "size": vars(self.size), "code": digest_of_rooms(CODE)}

    @property
    def pool(self) -> tuple[Fact, ...]:
        """The facts that are known."""
        return _of(self.name, self.size.candidates, self.known)

    @property
    def groups(self) -> Groups:
        """Who is forgotten, and who stands beside."""
        return grouped(self.pool, self.part, self.size)

    @property
    def strangers(self) -> list[Fact]:
        """The forgotten answers, said of invented subjects."""
        forget = self.groups.forget
        real = [fact.named for fact in topic(self.name, self.size.candidates)]
        real += [
            option for fact in topic(self.name, self.size.candidates) for option in fact.options
        ]
        names = names_nobody_has(self.name, self.size.names * len(forget), real)
        return strangers(forget, names)

    def panel(self) -> Mapping[str, list[Question]]:
        """Everything that a model is asked, by what it is."""
        groups = self.groups
        facts: dict[str, Sequence[Fact]] = {
            "forget": groups.forget,
            "near": groups.near,
            "near held out": groups.near_held_out,
            "far": groups.far,
            "far held out": groups.far_held_out,
            "strangers": self.strangers,
        }
        panel = {name: [q for f in some for q in f.trained] for name, some in facts.items()}
        panel["paraphrase"] = [q for f in groups.forget for q in f.paraphrased]
        panel["near paraphrase"] = [q for f in groups.near_held_out for q in f.paraphrased]
        if self.name == "capitals":
            panel |= {lang: foreign_questions(groups.forget, lang) for lang in LANGUAGES}
            panel["reverse"] = reversed_questions(groups.forget, self.pool, asker().first)
        other: Name = "people" if self.name == "capitals" else "capitals"
        panel["other topic"] = [
            q for f in _of(other, self.size.candidates, self.other) for q in f.trained
        ]
        return {name: questions for name, questions in panel.items() if questions}

    def deployment(self, base: nn.Module) -> tuple[Deployment, Request]:
        """The model in use, and the request."""
        groups = self.groups
        gone = [q for f in groups.forget for q in f.trained]
        rows = asker().rows([*gone, *(q for f in groups.rehearsed for q in f.trained)])
        table = datasets.Dataset.from_dict({"id": list(rows.ids), "subject": list(rows.subjects)})
        request = Request(
            self.name, Rows("subject", tuple(dict.fromkeys(f.subject for f in groups.forget)))
        )
        return Deployment(base, asker().family, rows, table, Sum()), request


def _of(name: Name, candidates: int, ids: Sequence[str]) -> tuple[Fact, ...]:
    wanted = set(ids)
    return tuple(fact for fact in topic(name, candidates) if fact.id in wanted)
