"""The expected direction of corrective unlearning, held against what was measured.

Expected by Goel, Prabhu, Torr, Kumaraguru, Sanyal (2024). Corrective Machine Unlearning, and by a
small check of our own on digits. Each finding says whether it held on the means over seeds.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from expunge.benchmarks.corrective.forms import BAD_T, OF_THE_PAPER, RETRAIN, SSD, SSD_FIXED

Panel = Mapping[str, Any]

POINTS = 0.10
"""Ten points: a difference that counts."""

LEAD = 0.40
"""What SSD leads retraining by, with half of the poison identified and with 80 %."""

LOSS, LITTLE = 0.03, 0.02
"""Retained accuracy that SSD may lose, and that Bad-T is expected to lose more than."""

LEARNT = 0.95
"""Attack success of a model that learnt the trigger."""

RECOVERED = 0.9
"""Share of the clean model's accuracy at which a manipulation counts as corrected."""


@dataclass(frozen=True)
class Finding:
    """What was expected, what was measured, and whether the one is the other."""

    panel: str
    expected: str
    measured: str
    held: bool


def findings(panel: Panel) -> list[dict[str, Any]]:
    """All findings of a panel, as JSON values; none where nothing is expected."""
    expected = {"patch trigger": _of_patch, "interclass confusion": _of_confusion}
    of_kind: Callable[[_Means], Iterator[Finding]] | None = expected.get(panel["manipulation"])
    return [] if of_kind is None else [asdict(finding) for finding in of_kind(_Means(panel))]


class _Means:
    """Means over seeds, by method, share and measure."""

    def __init__(self, panel: Panel) -> None:
        self._panel = panel
        self.name = f"{panel['world']}, {panel['manipulation']}"
        self.shares: list[float] = panel["shares"]

    def finding(self, expected: str, measured: str, held: bool) -> Finding:
        return Finding(self.name, expected, measured, held)

    def reference(self, which: str, measure: str) -> float:
        return float(self._panel[which][measure]["mean"])

    def of(
        self, method: str, share: float, measure: str = "corrected", variant: str = "as it comes"
    ) -> float | None:
        cell = self._panel["methods"].get(method, {}).get(f"{share:g}", {})
        return float(cell[variant][measure]["mean"]) if variant in cell else None

    def at(self, method: str, shares: Iterator[float] | list[float], **which: str) -> list[float]:
        """The means at those shares at which the method was measured."""
        found = [self.of(method, share, **which) for share in shares]
        return [value for value in found if value is not None]

    def methods(self) -> list[str]:
        return list(self._panel["methods"])


def _points(*values: float, digits: int = 0) -> str:
    return ", ".join(f"{100 * value:.{digits}f}" for value in values)


def _of_patch(means: _Means) -> Iterator[Finding]:
    attack = means.reference("original", "attacked")
    yield means.finding(
        f"the original answers the trigger's class on more than {LEARNT:.0%} of triggered rows",
        _points(attack),
        attack > LEARNT,
    )
    low = [share for share in means.shares if share <= 0.5]
    yield from _useless_retraining(means, low)
    for name in (SSD, SSD_FIXED):
        yield from _ssd_leads(means, name)
    ssd, retrain = means.of(SSD, 0.1), means.of(RETRAIN, 0.1)
    if ssd is not None and retrain is not None:
        yield means.finding(
            "with 10 % identified SSD corrects ten points more than retraining",
            f"{_points(ssd)} against {_points(retrain)}",
            ssd - retrain > POINTS,
        )
    others = [f.name for f in OF_THE_PAPER if f.name not in (SSD, SSD_FIXED)]
    if all(means.at(name, low) for name in others):
        best = max((max(means.at(name, low)), name) for name in others)
        yield means.finding(
            "no method of the paper but SSD corrects half, where half or less is identified",
            f"at most {_points(best[0])} ({best[1]})",
            best[0] < 0.5,
        )
    yield from _bad_teacher(means)


def _useless_retraining(means: _Means, low: list[float]) -> Iterator[Finding]:
    early, clean = means.at(RETRAIN, low), means.reference("clean", "corrected")
    late = means.of(RETRAIN, 1.0)
    if early and late is not None:
        yield means.finding(
            "retraining corrects less than 10 % where half or less is identified, and at least "
            "nine tenths of what clean data give where all of it is",
            f"at most {_points(max(early))}; {_points(late)} of {_points(clean)}",
            max(early) < POINTS and late >= RECOVERED * clean,
        )


def _ssd_leads(means: _Means, name: str) -> Iterator[Finding]:
    before = means.reference("original", "retained")
    for variant in ("as it comes", "matched"):
        shares, leads, losses = [], [], []
        for share in (0.5, 0.8):
            mine, its = means.of(name, share, variant=variant), means.of(RETRAIN, share)
            kept = means.of(name, share, "retained", variant)
            if mine is not None and its is not None and kept is not None:
                shares.append(share)
                leads.append(mine - its)
                losses.append(before - kept)
        if leads:
            at = " and ".join(f"{share:.0%}" for share in shares)
            yield means.finding(
                f"{name} {variant} leads retraining by more than 40 points at {at} identified and "
                "loses less than 3 of clean accuracy",
                f"leads by {_points(*leads)}, loses {_points(*losses, digits=1)}",
                min(leads) > LEAD and max(losses) < LOSS,
            )


def _bad_teacher(means: _Means) -> Iterator[Finding]:
    kept = means.at(BAD_T, means.shares, measure="retained")
    if kept:
        lost = means.reference("original", "retained") - fmean(kept)
        yield means.finding(
            "Bad-T loses more than two points of retained accuracy, on average over shares",
            _points(lost, digits=1),
            lost > LITTLE,
        )


def _of_confusion(means: _Means) -> Iterator[Finding]:
    spoiled, clean = (means.reference(which, "corrected") for which in ("original", "clean"))
    yield means.finding(
        "the original is ten points worse on the two classes than the model of clean data",
        f"{_points(spoiled)} against {_points(clean)}",
        clean - spoiled > POINTS,
    )
    retrain = means.of(RETRAIN, 0.1)
    for variant in ("as it comes", "matched"):
        found = [
            (value, name)
            for name in means.methods()
            if name != RETRAIN and (value := means.of(name, 0.1, variant=variant)) is not None
        ]
        if found and retrain is not None:
            best, name = max(found)
            yield means.finding(
                f"with 10 % identified none of the methods here, {variant}, is ten points above "
                "retraining",
                f"best {_points(best)} ({name}) against {_points(retrain)}",
                best - retrain <= POINTS,
            )
    ssd = means.at(SSD, means.shares)
    if ssd:
        yield means.finding(
            "SSD is nowhere ten points above the original",
            f"at most {_points(max(ssd))} against {_points(spoiled)}",
            max(ssd) - spoiled <= POINTS,
        )
    yield from _bad_teacher(means)
