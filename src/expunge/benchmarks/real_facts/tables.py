"""What the benchmark of real facts found: what the model knows, what methods leave, and verdicts.

No oracle exists: nobody can train this model again without a fact. Forgotten answers are read
against what the original model makes of the same answers said of strangers, invented subjects that
it cannot have met.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from statistics import fmean
from typing import Any

import torch

from expunge.benchmarks.real_facts.questions import CHOICES, LANGUAGES
from expunge.signals.accuracy import binomial_interval
from expunge.signals.forget_quality import ALIKE, ForgetQuality, forget_quality

KEPT = 0.95
"""Share of the original's right answers that has to stay, for facts that were only asked about."""

BACK = 0.5
"""Share of the questions shown that counts as relearned."""

HELD_OUT = ("near held out", "near paraphrase", "far held out", "other topic")
"""What was never rehearsed."""

Cell = Mapping[str, Any]
Table = tuple[str, Sequence[str], list[Sequence[object]]]


def tables(result: Mapping[str, Any]) -> list[Table]:
    """What is known; of every topic forgetting, fidelity, and the rates that were tried."""
    found = [_knowledge(name, known) for name, known in result["knowledge"].items()]
    for topic in result["topics"]:
        found += [_forgetting(topic), _levels(topic), _fidelity(topic)]
        if topic["tuning"]:
            found.append(_tuning(topic))
    return found


def _knowledge(name: str, known: Cell) -> Table:
    rows: list[Sequence[object]] = [
        (one["relation"], one["wording"], one["questions"], _interval(one), _share(one["exact"]))
        for one in known["wordings"]
    ]
    title = f"{name}: {len(known['known'])} of {known['facts']} facts are known"
    return title, ("relation", "asked as", "questions", "chosen of eight", "exact"), rows


ASKED: Mapping[str, str] = {
    "forget": "trained words",
    "paraphrase": "paraphrase",
    **{language: language for language in LANGUAGES},
    "reverse": "reverse",
}
"""Ways of asking for what is forgotten, and their columns."""


def _forgetting(topic: Cell) -> Table:
    original, names = topic["original"], [n for n in ASKED if n in topic["original"]]

    def shares(cell: Cell) -> list[object]:
        return [*(_of(cell, name) for name in names), _share(cell["forget"]["exact"])]

    strange = [_of(original, "strangers"), *["-"] * (len(names) - 1)]
    rows: list[Sequence[object]] = [
        ("original", *shares(original)),
        ("strangers, original", *strange, _share(original["strangers"]["exact"])),
        *_by_method(topic, shares),
    ]
    count = original["forget"]["questions"]
    title = f"{topic['topic']}, {count} questions forgotten: chosen of eight"
    return title, ("", *(ASKED[name] for name in names), "exact"), rows


LEVELS = ("log p", "KS", "p", "relearned after", "back unshown")


def _levels(topic: Cell) -> Table:
    original = topic["original"]

    def level(cell: Cell) -> list[object]:
        test = against_strangers(cell, original)
        curves = cell.get("relearned")
        again = ["0", "-"] if curves is None else _relearned(curves)
        return [f"{_level(cell['forget']):.2f}", f"{test.distance:.2f}", f"{test.p:.2g}", *again]

    strange = [f"{_level(original['strangers']):.2f}", "-", "-", *_relearned(original["learned"])]
    rows: list[Sequence[object]] = [
        ("original", *level(original)),
        ("strangers, original", *strange),
        *_by_method(topic, level),
    ]
    return f"{topic['topic']}, against strangers", ("", *LEVELS), rows


STAYING: Mapping[str, str] = {
    "near": "near",
    "near held out": "near, held out",
    "near paraphrase": "paraphrased",
    "far": "far",
    "far held out": "far, held out",
    "other topic": "other topic",
}
"""What is to stay, and its columns."""


def _fidelity(topic: Cell) -> Table:
    def kept(cell: Cell) -> list[object]:
        return [
            *(_of(cell, name) for name in STAYING),
            f"{cell['perplexity']:.1f}",
            f"{_level(cell['strangers']):.2f}",
            f"{cell['rate']:.1e}" if "rate" in cell else "-",
            f"{cell['seconds']:.0f}" if "seconds" in cell else "-",
        ]

    rows: list[Sequence[object]] = [
        ("original", *kept(topic["original"])),
        *_by_method(topic, kept),
    ]
    columns = ("", *STAYING.values(), "perplexity", "strangers", "rate", "seconds")
    return f"{topic['topic']}, what stays", columns, rows


def _by_method(topic: Cell, figures: Callable[[Cell], list[object]]) -> Iterator[Sequence[object]]:
    """A row of figures for every method and mode; several seeds side by side."""
    for label, cells in cells_of(topic):
        every = [figures(cell) for cell in cells if "forget" in cell]
        if every:
            yield (label, *(_joined(column) for column in zip(*every, strict=True)))
        else:
            width = len(figures(topic["original"]))
            yield (label, _word(cells[0]), *["-"] * (width - 1))


def _word(cell: Cell) -> str:
    return "refused" if "refused" in cell else "failed"


def _tuning(topic: Cell) -> Table:
    columns = ("forget", "paraphrase", "near held out", "far held out", "miss")
    rows: list[Sequence[object]] = []
    for method, tuned in topic["tuning"].items():
        for one in tuned["tried"]:
            shown = [f"{one[c]:.2f}" if c in one else "-" for c in columns]
            word = " (chosen)" if one["factor"] == tuned["factor"] else ""
            rate = f"{one['rate']:.2g}{word}" if "rate" in one else "-"
            rows.append((method, f"x {one['factor']:g}", rate, *shown))
    title = f"{topic['topic']}, rates on the development half"
    return title, ("", "of its rate", "rate", *columns), rows


def against_strangers(cell: Cell, original: Cell) -> ForgetQuality:
    """Kolmogorov and Smirnov's test of the log-probabilities of forgotten answers against those of
    the same answers said of strangers, by the original."""
    mine = torch.tensor(cell["forget"]["log probability"])
    return forget_quality(mine, torch.tensor(original["strangers"]["log probability"]))


def cells_of(topic: Cell) -> Iterator[tuple[str, list[Cell]]]:
    """Method and mode in words, and its results by seed."""

    def label(cell: Cell) -> str:
        scaled = "" if cell["factor"] == 1 else f" x {cell['factor']:g}"
        return f"{cell['method']}{scaled if cell['mode'] == 'budget' else ', preset'}"

    for name, group in groupby(sorted(topic["answers"], key=label), key=label):
        yield name, list(group)


def verdicts(result: Mapping[str, Any]) -> list[str]:
    """A line for every topic, method and mode: whether it forgot, kept the rest, and left a
    trace."""
    return [
        f"{topic['topic']}: {label}: {_verdict(cells, topic['original'])}"
        for topic in result["topics"]
        for label, cells in cells_of(topic)
    ]


def _verdict(cells: Sequence[Cell], original: Cell) -> str:
    answered = [cell for cell in cells if "forget" in cell]
    if not answered:
        word = _word(cells[0])
        return f"{word}: {cells[0][word]}"
    asked = ("forget", "paraphrase")
    level = binomial_interval(*_hits(original["strangers"])).high
    known = fmean(cell[name]["chosen"] for cell in answered for name in asked)
    worst = min(
        fmean(cell[name]["chosen"] for cell in answered) / original[name]["chosen"]
        for name in HELD_OUT
        if name in original
    )
    found = [
        f"{'forgotten' if known <= level else 'NOT forgotten'} ({known:.2f} chosen, strangers' "
        f"upper end {level:.2f})",
        f"{'kept' if worst >= KEPT else 'NOT kept'} (least {worst:.2f} of the original's)",
    ]
    tests = [against_strangers(cell, original) for cell in answered]
    below = fmean(_level(cell["forget"]) for cell in answered) < _level(original["strangers"])
    if min(test.p for test in tests) <= ALIKE:
        found.append(f"a trace: answers {'below' if below else 'above'} strangers'")
    return "; ".join(found)


def _level(part: Cell) -> float:
    return fmean(part["log probability"])


def _hits(part: Cell) -> tuple[int, int]:
    return round(part["chosen"] * part["questions"]), part["questions"]


def _interval(part: Cell) -> str:
    found = binomial_interval(*_hits(part))
    return f"{part['chosen']:.2f} ({found.low:.2f} to {found.high:.2f})"


def _of(cell: Cell, name: str) -> str:
    return _share(cell[name]["chosen"]) if name in cell else "-"


def _share(share: float) -> str:
    return f"{share:.2f}"


def _relearned(curves: Cell) -> list[str]:
    """The first step at which half of what is shown is chosen right, and the most that is of the
    rest meanwhile."""
    shown = curves["shown"]
    after = next((step for step, share in enumerate(shown) if share >= BACK), None)
    return [f">{len(shown) - 1}" if after is None else str(after), f"{max(curves['others']):.2f}"]


def _joined(column: Sequence[object]) -> str:
    """The figures of several seeds."""
    return " ".join(dict.fromkeys(map(str, column)))


CAPTION = (
    f"chosen: share of questions whose true answer is the likeliest of {CHOICES} options by its "
    f"first token; chance {1 / CHOICES:.3f}. exact: every token of it is the likeliest of all. "
    "paraphrase, languages, reverse: ways of asking that no method trained on. log p: mean "
    "log-probability per token of the forgotten answers, in nats; KS, p: its distribution over "
    "facts against that of the same answers said of strangers, by the original. relearned after: "
    "steps on the questions about one half of the subjects until half of them are chosen right; "
    "back unshown: the most that is chosen meanwhile of the others. near: neighbours, or people "
    "of the same calling; held out: not rehearsed; strangers: log p of answers about them. No "
    "oracle exists: strangers are the level to come near, and answers far below it are a trace of "
    "what was removed."
)
"""What the columns are."""
