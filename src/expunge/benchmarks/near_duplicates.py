"""Planted copies among real texts and pictures: what share is found, and how much else with it.

Originals are drawn from one half of the concepts, mails or digits for the thresholds (validation)
and from the other half for the figures (test); each seed draws others. The pool holds every other
row, so hard negatives are real: one concept drawn by another vendor, mails of one thread. It holds
those of both halves, so a false pair of a test and a validation row was seen when the thresholds
were chosen: such pairs are counted ("false across halves"). Pairs that were alike before anything
was planted are counted apart, by a rule of their own that asks no detector: texts that share a
fifth of the shorter one's runs of eight words, and pictures of one concept by one vendor.
"""

import dataclasses
import functools
import hashlib
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from rich.console import Console

from expunge.benchmarks.planted_copies import (
    CLAIMED,
    EXACT,
    PICTURE_CLAIMED,
    PICTURE_COPIES,
    QUOTED,
    TEXT_CLAIMED,
    TEXT_COPIES,
    quoted,
)
from expunge.data import emoji_grid, mnist
from expunge.data.catalogue import at_hand
from expunge.data.duplicates.exact import ExactCopy
from expunge.data.duplicates.normal import words
from expunge.data.duplicates.pictures import NearPicture, Pictures
from expunge.data.duplicates.text import NearText, PlainText, QuotedText, Texts
from expunge.errors import ExpungeError
from expunge.signals.accuracy import binomial_interval, bootstrap_interval

RUN = 8
"""Words that two texts must share in a row to count as alike before anything was planted."""
SHARED = 0.2
"""Share of the shorter text's runs from which two texts count as alike before."""
ENDS = ("", "low", "high")
"""A figure, and the ends of its 95 % interval."""
SHORT = 5
"""Texts of fewer words are not drawn as originals: one changed word is a fifth of them."""


@dataclass(frozen=True)
class Pool:
    """Real rows of one kind: ``values``; ``group`` (n) says which rows are one concept or mail."""

    name: str
    values: Sequence[Any]
    group: Sequence[str]
    copies: Mapping[str, Callable[[Any, random.Random], Any]]
    claimed: tuple[str, ...]
    prepare: Callable[[Sequence[Any]], Any]
    detectors: tuple[Any, ...]
    alike: Callable[[int], set[int]]
    """Rows that were alike with a row before anything was planted."""

    @functools.cached_property
    def whole(self) -> Any:
        """All values, prepared once."""
        return self.prepare(self.values)

    def originals(self, part: str, seed: int, count: int) -> list[int]:
        """Rows of the half ``part``; different seeds draw different rows."""
        half = [i for i, g in enumerate(self.group) if part_of(g) == part and self._long(i)]
        random.Random(0).shuffle(half)
        return half[seed * count : (seed + 1) * count]

    def _long(self, row: int) -> bool:
        value = self.values[row]
        return not isinstance(value, str) or len(value.split()) >= SHORT


def part_of(group: str) -> str:
    """The half that a concept, mail or digit belongs to, by its name alone."""
    odd = hashlib.sha256(group.encode()).digest()[0] % 2
    return "test" if odd else "validation"


def emoji_pictures() -> Pool:
    """The shipped drawings; two designs of one vendor for one concept are counted apart."""
    table = emoji_grid.load()
    pixels = emoji_grid.pixels(table).permute(0, 2, 3, 1).numpy()
    subject, vendor = list(table["subject"]), list(table["vendor"])
    same: dict[tuple[str, str], set[int]] = {}
    for row, key in enumerate(zip(subject, vendor, strict=True)):
        same.setdefault(key, set()).add(row)
    return _pictures(
        "emoji drawings",
        [Image.fromarray(p) for p in pixels],
        subject,
        lambda row: same[subject[row], vendor[row]] - {row},
    )


def digit_pictures() -> Pool:
    """Handwritten digits, 28 x 28 grey: any two of one class are hard negatives."""
    table = mnist.load()
    pixels = np.array(table["image"], np.uint8).reshape(-1, 28, 28)
    values = [Image.fromarray(p).convert("RGB") for p in pixels]
    return _pictures("handwritten digits", values, list(table["id"]), lambda _: set())


def _pictures(
    name: str,
    values: Sequence[Image.Image],
    group: Sequence[str],
    alike: Callable[[int], set[int]],
) -> Pool:
    detectors = (ExactCopy(), NearPicture())
    return Pool(
        name,
        values,
        group,
        PICTURE_COPIES,
        PICTURE_CLAIMED,
        Pictures.of,
        detectors,
        alike,
    )


def emoji_texts() -> Pool:
    """Short texts: name and tags of each concept that ships."""
    table = emoji_grid.concepts()
    values = [
        f"{name}: {', '.join(tags)}"
        for name, tags in zip(table["concept"], table["tags"], strict=True)
    ]
    return _texts("names and tags of emoji", values)


def mail_texts() -> Pool:
    """The bodies of 6,046 mails; `expunge data fetch spam-assassin` fetches them."""
    values = [text or "" for text in at_hand("spam-assassin").load()["text"]]
    return _texts("e-mails", values)


def _texts(name: str, values: Sequence[str]) -> Pool:
    runs = [_runs(text) for text in values]
    holders: dict[tuple[str, ...], list[int]] = {}
    for row, held in enumerate(runs):
        for run in held:
            holders.setdefault(run, []).append(row)

    def alike(row: int) -> set[int]:
        shared = Counter(other for run in runs[row] for other in holders[run])
        del shared[row]
        return {o for o, n in shared.items() if n >= SHARED * min(len(runs[row]), len(runs[o]))}

    group = [" ".join(words(text)) for text in values]
    detectors = (ExactCopy(), PlainText(), NearText(), QuotedText())
    return Pool(name, values, group, TEXT_COPIES, TEXT_CLAIMED, Texts.of, detectors, alike)


def _runs(text: str) -> set[tuple[str, ...]]:
    """Runs of eight words; of a shorter text, all its words."""
    found = words(text)
    last = max(1, len(found) - RUN + 1)
    return {tuple(found[i : i + RUN]) for i in range(last)} if found else set()


@dataclass(frozen=True)
class Trial:
    """What the detectors said of the originals of one seed.

    Args:
        found: for each kind, for each original, the detectors that found its copy.
        false: for each original, how many rows besides were flagged and not alike before.
        across: of the false ones, how many are rows of the other half.
        before: for each original, how many flagged rows were alike before.
        by_detector: of the false ones, by detector.
    """

    found: Mapping[str, Sequence[frozenset[str]]]
    false: Sequence[int]
    across: int
    before: Sequence[int]
    by_detector: Mapping[str, int]


@dataclass(frozen=True)
class Planted:
    """The originals of one seed, and the rows to search: ``others``, then a copy of each kind."""

    originals: Sequence[int]
    others: Sequence[int]
    kinds: Sequence[str]
    queries: Any
    rows: Any


def plant(pool: Pool, part: str, seed: int, count: int) -> Planted:
    """Plant one copy of each kind of each original among all other rows."""
    draw = random.Random(seed)
    originals = pool.originals(part, seed, count)
    others = sorted(set(range(len(pool.values))) - set(originals))
    kinds = list(pool.copies)
    planted = [pool.copies[kind](pool.values[i], draw) for kind in kinds for i in originals]
    if isinstance(pool.values[0], str):
        kinds.append(QUOTED)
        planted += [quoted(pool.values[i], pool.values[draw.choice(others)]) for i in originals]
    rows = pool.whole.select(others).plus(pool.prepare(planted))
    return Planted(originals, others, kinds, pool.whole.select(originals), rows)


def tried(pool: Pool, planted: Planted, detectors: Sequence[Any]) -> Trial:
    """Look for the originals, and say which flags are true.

    A flag is false where a real row is flagged that was not alike before. The originals were taken
    out of the pool, so the exact copy of another original stands for that row; its other copies are
    nobody's rows and are not judged.
    """
    said: dict[tuple[int, int], set[str]] = {}
    for detector in detectors:
        for match in detector.matches(planted.queries, planted.rows):
            said.setdefault((match.query, match.row), set()).add(detector.name)
    n, first = len(planted.originals), len(planted.others)
    found = {
        kind: [frozenset(said.get((q, first + k * n + q), ())) for q in range(n)]
        for k, kind in enumerate(planted.kinds)
    }
    real = _real_rows(planted)
    alike = [pool.alike(i) for i in planted.originals]
    false, before, across, by_detector = [0] * n, [0] * n, 0, Counter[str]()
    for (query, flagged), names in said.items():
        row, original = real.get(flagged), planted.originals[query]
        if row is None or row == original:
            continue
        if row in alike[query]:
            before[query] += 1
        else:
            false[query] += 1
            across += part_of(pool.group[row]) != part_of(pool.group[original])
            by_detector.update(names)
    return Trial(found, false, across, before, by_detector)


def _real_rows(planted: Planted) -> dict[int, int]:
    """The row of the pool that a searched position stands for; none for copies that are changed."""
    first = len(planted.others)
    exact = first + planted.kinds.index(EXACT) * len(planted.originals)
    return dict(enumerate(planted.others)) | dict(enumerate(planted.originals, exact))


def figures(pool: Pool, seeds: Sequence[Planted], detectors: Sequence[Any]) -> dict[str, Any]:
    """Recall and precision of each kind over all seeds, with 95 % intervals.

    The precision of a kind is as though only its copies had been planted: true flags over true and
    false ones. Intervals: Wilson's for recall; for precision, drawn over originals.
    """
    trials = [tried(pool, planted, detectors) for planted in seeds]
    false = [n for trial in trials for n in trial.false]
    kinds = {}
    for kind in trials[0].found:
        names = [found for trial in trials for found in trial.found[kind]]
        hits = [bool(found) for found in names]
        kinds[kind] = {
            "claimed": kind in pool.claimed,
            "copies": len(hits),
            **_share("recall", sum(hits), len(hits)),
            **_precision(hits, false),
            "by detector": {
                d.name: sum(d.name in found for found in names) / len(names) for d in detectors
            },
        }
    return {
        "rows": len(pool.values),
        "originals": len(false),
        "false": sum(false),
        "false across halves": sum(trial.across for trial in trials),
        "false by detector": dict(sum((Counter(t.by_detector) for t in trials), Counter())),
        "alike before": sum(n for trial in trials for n in trial.before),
        "kinds": kinds,
    }


def _share(name: str, hits: int, trials: int) -> dict[str, float]:
    interval = binomial_interval(hits, trials)
    return {name: hits / trials, f"{name} low": interval.low, f"{name} high": interval.high}


def _precision(hits: Sequence[bool], false: Sequence[int]) -> dict[str, float]:
    if sum(hits) == 0:  # nothing to draw from either; without a flag, nothing is known
        nothing = {"precision": 0.0, "precision low": 0.0, "precision high": 1.0}
        return _share("precision", 0, sum(false)) if any(false) else nothing
    if sum(false) == 0:  # no spread to draw from: the interval of the share of clean originals
        return _share("precision", len(hits), len(hits))
    flags = [[1.0] * hit + [0.0] * wrong for hit, wrong in zip(hits, false, strict=True)]
    values = torch.tensor([v for flag in flags for v in flag])
    groups = [str(i) for i, flag in enumerate(flags) for _ in flag]
    interval = bootstrap_interval(values, groups)
    return {
        "precision": float(values.mean()),
        "precision low": interval.low,
        "precision high": interval.high,
    }


SETTINGS: Mapping[str, Sequence[Mapping[str, float]]] = {
    NearPicture.name: [
        {"threshold": t, "bits": b} for b in (4, 6) for t in (0.94, 0.95, 0.96, 0.97, 0.98)
    ],
    NearText.name: [
        {"threshold": t, "threshold_of_few": t} for t in (0.4, 0.45, 0.5, 0.55, 0.6, 0.65)
    ],
    QuotedText.name: [{"threshold": t} for t in (0.5, 0.6, 0.7, 0.8)],
}
"""Thresholds that are compared on the validation part; the defaults were chosen from these."""


def swept(pool: Pool, seeds: Sequence[Planted]) -> list[dict[str, Any]]:
    """For each setting of each detector, alone, on the validation part: the least recall of the
    claimed kinds, the recall of quotations, and the least precision.
    """
    found = []
    for detector in pool.detectors:
        for setting in SETTINGS.get(detector.name, ()):
            changed = dataclasses.replace(detector, **setting)
            measured = figures(pool, seeds, (changed,))
            kinds = measured["kinds"]
            claimed = [kinds[kind] for kind in pool.claimed]
            found.append(
                {
                    "detector": detector.name,
                    **setting,
                    "least recall": min(f["recall"] for f in claimed),
                    "quoted": kinds[QUOTED]["recall"] if QUOTED in kinds else None,
                    "least precision": min(f["precision"] for f in claimed),
                    "false": measured["false"],
                }
            )
    return found


def run(full: bool, console: Console | None = None) -> dict[str, Any]:
    """The figures of every pool, on validation and on test.

    Args:
        full: five seeds of 100 originals, mails and a sweep of thresholds as well; else two seeds
            of 50 with what ships.
        console: where progress is shown.

    Raises:
        ExpungeError: ``full``, and the mails were not fetched.
    """
    makers: list[Callable[[], Pool]] = [emoji_pictures, digit_pictures, emoji_texts]
    if full:
        at_hand("spam-assassin")  # refuse at once, not after the pictures
        makers.append(mail_texts)
    seeds, count = (5, 100) if full else (2, 50)
    result: dict[str, Any] = {"seeds": seeds, "pools": {}}
    for make in makers:
        pool = make()
        if console is not None:
            console.print(f"{pool.name}: {len(pool.values):,} rows")
        found: dict[str, Any] = {
            "detectors": {d.name: dataclasses.asdict(d) for d in pool.detectors}
        }
        for part in ("validation", "test"):
            planted = [plant(pool, part, seed, count) for seed in range(seeds)]
            found[part] = figures(pool, planted, pool.detectors)
            if part == "validation":
                found["thresholds, on validation"] = swept(pool, planted) if full else []
        result["pools"][pool.name] = found
    return result


def recalls(result: Mapping[str, Any]) -> dict[str, Any]:
    """What `expunge find` says of its detectors: their recall of the claimed kinds.

    Args:
        result: of :func:`run` with ``full``.

    Returns:
        Under ``recall``, by content, pool and kind: the recall on the test part and its 95 %
        interval. Under ``detectors``, by content and name: the thresholds that it holds for.

    Raises:
        ExpungeError: the result is of a quick run.
    """
    if not all(pool["thresholds, on validation"] for pool in result["pools"].values()):
        raise ExpungeError(
            "A quick run of the near-duplicates was given; the recall that is shipped is that of "
            "`expunge bench near-duplicates --full`."
        )
    found: dict[str, Any] = {"recall": {}, "detectors": {}}
    for name, pool in result["pools"].items():
        kinds = {kind: f for kind, f in pool["test"]["kinds"].items() if f["claimed"]}
        content = next(c for c, claimed in CLAIMED.items() if set(claimed) == set(kinds))
        found["detectors"][content] = pool["detectors"]
        found["recall"].setdefault(content, {})[name] = {
            kind: {end or "recall": round(f[f"recall {end}".strip()], 4) for end in ENDS}
            for kind, f in kinds.items()
        }
    return found


def tables(result: Mapping[str, Any]) -> list[tuple[str, list[str], list[list[object]], str]]:
    """The printed figures of the test part: title, columns, rows, and what stands below."""
    found = []
    for name, parts in result["pools"].items():
        test = parts["test"]
        rows: list[list[object]] = [
            [
                kind if f["claimed"] else f"({kind})",
                *(part for measure in ("recall", "precision") for part in _shown(f, measure)),
            ]
            for kind, f in test["kinds"].items()
        ]
        below = (
            f"In %. {test['originals']} originals among {test['rows']:,} rows, test part; "
            f"{test['false']} false flags, {test['false across halves']} of them on rows of the "
            f"validation half; {test['alike before']} pairs that were alike before, "
            "counted apart. Kinds in brackets are not claimed."
        )
        found.append((name, ["copy", "recall", "95 %", "precision", "95 %"], rows, below))
    return found


def _shown(figures_of_kind: Mapping[str, float], measure: str) -> tuple[str, str]:
    value, low, high = (100 * figures_of_kind[measure + end] for end in ("", " low", " high"))
    return f"{value:.1f}", f"{low:.1f}-{high:.1f}"
