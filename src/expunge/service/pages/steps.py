"""Steps: where a run stands, in the order that it goes through them, in plain words."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from expunge.ledger.queueing import INTERRUPTED, REVOKE, SEAL, SERVE

When = Literal["past", "now", "ahead", "wrong"]

TITLES: Mapping[str, str] = {
    SERVE: "Answering the request",
    REVOKE: "Taking the request back",
    SEAL: "Sealing the history",
}
MEANING: Mapping[str, tuple[str, str]] = {
    "queued": ("Waits", "In the queue; a worker takes it up in its turn."),
    "resolve": ("Resolve", "Which rows are named, and which others repeat them."),
    "guard": ("Guard", "A guard that refuses what is to be forgotten, until the weights follow."),
    "unlearn": ("Unlearn", "The change is made, and folded into the history."),
    "measure": ("Measure", "This and every other request, held to the gate of the policy."),
    "publish": ("Publish", "The new version, with its signed certificate."),
}
ORDER: Mapping[str, tuple[str, ...]] = {
    SERVE: ("queued", "resolve", "unlearn", "measure", "publish"),
    REVOKE: ("queued", "unlearn", "measure", "publish"),
    SEAL: ("queued", "unlearn", "measure", "publish"),
}
SEALING = ("Fold", "The history is folded into a new base; later answers are made again from it.")


@dataclass(frozen=True)
class Step:
    """One step of a run: what it is called, what it does, and whether it is done."""

    name: str
    means: str
    when: When


@dataclass(frozen=True)
class Shown:
    """A run as a page shows it."""

    run: str
    title: str
    state: str
    steps: tuple[Step, ...]
    since: str
    share: float | None
    why: str | None

    @property
    def now(self) -> str:
        """What is being done, in words."""
        return next(step.name for step in self.steps if step.when in ("now", "wrong"))


def shown(
    run: str,
    kind: str,
    state: str,
    step: str,
    since: str,
    share: float | None,
    why: str | None = None,
) -> Shown:
    """A run with its steps, up to where it is and after that."""
    names = ORDER[kind]
    if step not in names and step in MEANING:  # a guard comes before the weights
        names = (*names[:2], step, *names[2:])
    at = names.index(step) if step in names else 0
    current: When = "wrong" if state == INTERRUPTED else "now"
    steps = []
    for i, name in enumerate(names):
        title, means = SEALING if kind == SEAL and name == "unlearn" else MEANING[name]
        steps.append(Step(title, means, "past" if i < at else current if i == at else "ahead"))
    return Shown(run, TITLES[kind], state, tuple(steps), since, share, why)
