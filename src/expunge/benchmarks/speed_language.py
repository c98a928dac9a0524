"""Speed of unlearning in language models: the frozen reference asked once, and no padding.

Two questions. What does a step of NPO with a retain term cost where the reference's answers are
cached, beside a trainer that runs the frozen reference at every step, on the same batches? The
losses are compared first, and the ratio is held against the ceiling that the operations of one step
leave, counted in the same run. Then: how many more answer tokens a second do batches give that go
through the model in groups of rows of like length instead of padded to the longest? Rows are
descriptions of the people whom WordNet names: real texts of real lengths. Seconds are processor
time, the least of several steps on the same rows, in turns.
"""

import copy
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, ClassVar

import torch
from rich.console import Console
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from expunge.benchmarks.step_times import step_ends
from expunge.changes.history import History
from expunge.data import catalogue
from expunge.data.encoding import IGNORED, padded
from expunge.data.samples import Batch, Samples, TensorSamples
from expunge.descent.length import Steps
from expunge.descent.loop import Descent
from expunge.descent.optimisers import AdamW
from expunge.descent.player import Player, Setting, Term
from expunge.descent.reference import ReferenceStates
from expunge.descent.retain_terms import Loss
from expunge.descent.sequence_terms import NegativePreference
from expunge.descent.token_distillation import ReferenceDivergence
from expunge.errors import ExpungeError
from expunge.families.abilities import HasAnswers, HasLoss, able
from expunge.families.language import Language, grouped, read_lengths
from expunge.models.tiny_llama import TinyLlama
from expunge.problem import Fields, Problem
from expunge.recipe import Role
from expunge.requests import NO_REQUEST
from expunge.run import Run

EQUAL = 1e-5
"""Largest difference of the two trainers' losses, as a share of the loss."""

BATCH = 32
"""Rows of a batch of each term."""

VOCABULARY = 4096
"""The most frequent words of the descriptions; a rarer one is word 1, and 0 ends a text."""

BETA = 0.1


@dataclass(frozen=True)
class PreferenceAtEveryStep:
    """NPO as trainers commonly write it: the frozen reference answers every batch again."""

    beta: float = BETA
    weight: float = 1.0
    every: int = 1
    batch_size: int | None = None
    fields: Fields = None
    needs: ClassVar[tuple[type, ...]] = (HasLoss,)

    def start(self, setting: Setting, samples: Samples) -> nn.Module:
        """The reference, which stays in memory."""
        return copy.deepcopy(setting.reference())

    def value(self, setting: Setting, batch: Batch, prepared: object) -> Tensor:
        """The loss of NPO."""
        assert isinstance(prepared, nn.Module)
        scorer = able(setting.family, HasLoss)
        with torch.no_grad():
            before = scorer.losses(prepared, batch).sums()
        ratio = scorer.losses(setting.model, batch).sums() - before
        return -2 / self.beta * nn.functional.logsigmoid(self.beta * ratio).mean()


@dataclass(frozen=True)
class DivergenceAtEveryStep:
    """KL to the frozen reference, which answers every batch again."""

    weight: float = 1.0
    every: int = 1
    batch_size: int | None = None
    fields: Fields = None
    needs: ClassVar[tuple[type, ...]] = (HasAnswers,)

    def start(self, setting: Setting, samples: Samples) -> nn.Module:
        """The reference, which stays in memory."""
        return copy.deepcopy(setting.reference())

    def value(self, setting: Setting, batch: Batch, prepared: object) -> Tensor:
        """Mean over the answer tokens of the batch of KL(reference || model)."""
        assert isinstance(prepared, nn.Module)
        scorer = able(setting.family, HasAnswers)
        with torch.no_grad():
            before = scorer.answers(prepared, batch).values.log_softmax(1)
        now = scorer.answers(setting.model, batch).values.log_softmax(1)
        return (before.exp() * (before - now)).sum(1).mean()


@dataclass(frozen=True)
class Recorded:
    """A term whose values are written down."""

    term: Term
    values: list[float] = field(default_factory=list, compare=False)

    @property
    def weight(self) -> float:
        """That of the term."""
        return self.term.weight

    @property
    def every(self) -> int:
        """That of the term."""
        return self.term.every

    @property
    def batch_size(self) -> int | None:
        """That of the term."""
        return self.term.batch_size

    @property
    def fields(self) -> Fields:
        """Those of the term."""
        return self.term.fields

    @property
    def needs(self) -> tuple[type, ...]:
        """Those of the term."""
        return self.term.needs

    def start(self, setting: Setting, samples: Samples) -> object:
        """What the term prepares."""
        return self.term.start(setting, samples)

    def value(self, setting: Setting, batch: Batch, prepared: object) -> Tensor:
        """The value of the term."""
        found = self.term.value(setting, batch, prepared)
        self.values.append(float(found.detach()))
        return found


FORMS: Mapping[str, tuple[Term, Term, Term, Term]] = {
    "NPO + RT": (PreferenceAtEveryStep(), Loss(), NegativePreference(BETA), Loss()),
    "NPO + KL": (
        PreferenceAtEveryStep(),
        DivergenceAtEveryStep(),
        NegativePreference(BETA),
        ReferenceDivergence(),
    ),
}
"""Forget and retain term of the common trainer, and of ours."""


def run(
    width: int = 192, layers: int = 4, steps: int = 6, console: Console | None = None
) -> dict[str, Any]:
    """Measure both questions on one model.

    Args:
        width: of the Llama shape; its size changes no ratio much.
        layers: of it.
        steps: that are timed, in each of two turns.
        console: where progress is drawn.

    Returns:
        JSON values: seconds a step, ratios, ceilings, answer tokens a second, bytes.

    Raises:
        ExpungeError: WordNet was not fetched, or the two trainers' losses differ by more than
            rounding: their times would say nothing.
    """
    problem = _problem(TinyLlama(VOCABULARY, layers, width, inner=3 * width, context=128)(0))
    with Run(console=console).progress("speed", len(FORMS) + 1) as bar:
        forms = []
        for name in FORMS:
            forms.append(_form(name, problem, steps))
            bar.advance()
        lengths = _lengths(problem, steps)
        bar.advance()
    return {
        "threads": torch.get_num_threads(),
        "parameters": sum(p.numel() for p in problem.model.parameters()),
        "batch": BATCH,
        "steps": steps,
        "forms": forms,
        "lengths": lengths,
    }


def tables(result: dict[str, Any]) -> list[tuple[str, Sequence[str], list[Sequence[object]]]]:
    """Title, columns and rows of what is printed."""
    forms: list[Sequence[object]] = [
        [
            row["form"],
            f"{row['difference']:.0e}",
            f"{1e3 * row['every step']:.0f}",
            f"{1e3 * row['cached']:.0f}",
            f"{row['ratio']:.3f}",
            f"{row['ceiling']:.3f}",
            f"{100 * row['reached']:.0f}",
            f"{row['seconds of asking']:.1f}",
            f"{100 * row['bytes saved']:.1f}",
        ]
        for row in result["forms"]
    ]
    lengths: list[Sequence[object]] = [
        [
            row["form"],
            f"{1e3 * row['seconds']:.0f}",
            f"{row['answer tokens a second']:,.0f}",
            f"{row['ratio']:.2f}",
            f"{100 * row['padding']:.0f}",
        ]
        for row in result["lengths"]
    ]
    model = f"{result['parameters']:,} weights, batches of {result['batch']}"
    best = f"{result['threads']} threads, processor milliseconds, the least of {result['steps']}"
    return [
        (
            f"A step with the reference run every time and with its answers cached; {model}, "
            f"{best}. differ: largest difference of the losses; ceiling: by operations counted; "
            "asking: seconds, once; saved: % of the reference's bytes",
            [
                "form",
                "differ",
                "every step",
                "cached",
                "ratio",
                "ceiling",
                "% of it",
                "asking",
                "saved",
            ],
            forms,
        ),
        (
            f"NPO + RT with cached answers, the same batches padded and in groups of rows of like "
            f"length; {best}",
            ["form", "a step", "answer tokens/s", "ratio", "% padding"],
            lengths,
        ),
    ]


def _problem(model: nn.Module) -> Problem:
    """Descriptions of people: 256 to forget and 512 to retain."""
    rows = _rows(768)
    data = {
        Role.FORGET: rows.select(torch.arange(256)),
        Role.RETAIN: rows.select(torch.arange(256, 768)),
    }
    return Problem(model, Language(overhead=None), NO_REQUEST, data, History())


def _rows(count: int) -> TensorSamples:
    table = catalogue.at_hand("wordnet-people").load()
    table = table.select([place * len(table) // count for place in range(count)])
    questions = [f"who was {name.lower()} ?".split() for name in table["name"][:]]
    answers = [text.lower().split() for text in table["text"][:]]
    words = Counter(word for row in [*questions, *answers] for word in row)
    known = {word: 2 + i for i, (word, _) in enumerate(words.most_common(VOCABULARY - 2))}
    asked = [[known.get(word, 1) for word in question] for question in questions]
    said = [[*(known.get(word, 1) for word in answer), 0] for answer in answers]
    return TensorSamples(table["id"][:], table["subject"][:], padded(asked, said))


def _form(name: str, problem: Problem, steps: int) -> dict[str, Any]:
    """Both trainers on the same batches: first that the losses agree, then their seconds."""
    common, ours = ([Recorded(term) for term in FORMS[name][place : place + 2]] for place in (0, 2))
    times = [float("inf")] * 2
    for _ in range(2):
        for place, (forget, retain) in enumerate((common, ours)):
            times[place] = min(times[place], _step(_descent(forget, retain, steps), problem))
    pairs = [
        (one, other)
        for theirs, own in zip(common, ours, strict=True)
        for one, other in zip(theirs.values, own.values, strict=True)
    ]
    difference = max(abs(one - other) / max(abs(one), 1e-2) for one, other in pairs)
    if not difference <= EQUAL:
        raise ExpungeError(
            f"The losses of {name} differ by {difference:.1g} between the trainer that runs the "
            f"reference and the one that cached its answers, and {EQUAL:g} are allowed; their "
            "times would say nothing."
        )
    counted = [_operations(forget, retain, problem) for forget, retain in (common, ours)]
    ceiling = counted[0] / counted[1]
    return {
        "form": name,
        "difference": difference,
        "every step": times[0],
        "cached": times[1],
        "ratio": times[0] / times[1],
        "operations": counted,
        "ceiling": ceiling,
        "reached": times[0] / times[1] / ceiling,
        **_cache(ours[1], problem),
    }


def _descent(forget: Term, retain: Term, steps: int) -> Descent:
    player = Player(forget=forget, retain=retain, optimiser=AdamW(1e-5))
    return Descent(player, length=Steps(steps + 1), batch_size=BATCH)


def _step(descent: Descent, problem: Problem) -> float:
    """The least processor time between the ends of two steps."""
    ends, _ = step_ends(descent, problem, Run())
    return min(later - sooner for sooner, later in pairwise(ends))


def _operations(forget: Term, retain: Term, problem: Problem) -> int:
    """Floating-point operations of one step: of two steps less those of one."""
    counts = []
    for steps in (0, 1):
        with FlopCounterMode(display=False) as counter:
            _descent(forget, retain, steps).minimise(problem, Run())
        counts.append(counter.get_total_flops())
    return int(counts[1] - counts[0])


def _cache(retain: Recorded, problem: Problem) -> dict[str, Any]:
    """Seconds of asking the reference once, and the bytes that stay in its place."""
    modules = {"model": problem.model}
    setting = Setting(problem, modules, lambda: problem.model, Run())
    start = time.process_time()
    NegativePreference(BETA).start(setting, problem.data[Role.FORGET])
    kept = 4 * len(problem.data[Role.FORGET])
    head = 0
    if isinstance(retain.term, ReferenceDivergence):
        states = ReferenceStates.of(setting, problem.data[Role.RETAIN])
        kept, head = kept + states.bytes, _bytes(states.head)
    seconds = time.process_time() - start
    reference = _bytes(problem.model)
    return {
        "seconds of asking": seconds,
        "bytes of the reference": reference,
        "bytes of the head": head,
        "bytes of the answers": kept,
        "bytes saved": 1 - (kept + head) / reference,
    }


def _bytes(module: nn.Module) -> int:
    return sum(p.numel() * p.element_size() for p in module.parameters())


def _lengths(problem: Problem, steps: int) -> list[dict[str, Any]]:
    """The same batches padded and in groups, with cached answers both times."""
    families = {"padded": Language(overhead=None), "in groups": Language()}
    problems = {name: replace(problem, family=family) for name, family in families.items()}
    tokens, padding = _counts(problems)
    times: dict[str, list[float]] = {name: [] for name in families}
    for _ in range(2):
        for name, asked in problems.items():
            times[name].append(_all_steps(asked, steps))
    best = {name: min(found) for name, found in times.items()}
    return [
        {
            "form": name,
            "seconds": best[name] / steps,
            "answer tokens a second": tokens * steps / best[name],
            "ratio": best["padded"] / best[name],
            "padding": padding[name],
        }
        for name in families
    ]


def _all_steps(problem: Problem, steps: int) -> float:
    """Processor time of ``steps`` steps after the first."""
    ends, _ = step_ends(_descent(NegativePreference(BETA), Loss(), steps), problem, Run())
    return ends[-1] - ends[0]


def _counts(problems: Mapping[str, Problem]) -> tuple[float, dict[str, float]]:
    """Answer tokens of a step in the mean, and the share of the tokens read that is padding."""
    data = next(iter(problems.values())).data
    tokens, share = 0.0, {}
    for name, problem in problems.items():
        read = held = 0
        tokens = 0.0
        for role in (Role.FORGET, Role.RETAIN):
            labels = problem.data[role].batch(torch.arange(len(data[role])))["labels"]
            tokens += BATCH * float((labels != IGNORED).sum()) / len(labels)
            for start in range(0, len(labels), BATCH):
                lengths = read_lengths(labels[start : start + BATCH])
                overhead = getattr(problem.family, "overhead", None)
                read += sum(len(rows) * width for rows, width in grouped(lengths, overhead))
                held += sum(lengths)
        share[name] = 1 - held / read
    return tokens, share
