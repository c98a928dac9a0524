"""The protocol: bases and oracles, every form at its preset and at the level, all relearned."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from expunge.benchmarks.facts.people import FIRST_TUNING
from expunge.benchmarks.facts.world import Place, Size
from expunge.benchmarks.jobs import Some, Told, by_job
from expunge.benchmarks.smoothing.forms import FORMS, PLAIN
from expunge.benchmarks.smoothing.work import Answering, Attack, Describing, Stage
from expunge.errors import ExpungeError

QUICK = ("npo-rt", "npo-sam", "npo-gp")
"""The forms of the quick form."""

ATTACKS = (Attack(2, 1e-4), Attack(2, 3e-4), Attack(2, 1e-3), Attack(5, 3e-4))
"""The facts about a fifth of the people at three rates, and about half of them at the middle."""

SEED = 0
"""Of all models: what differs between draws are the people and what is true of them."""

MOST = 20
"""Draws that can be asked for, far from those that were tuned on."""


@dataclass(frozen=True)
class Protocol:
    """What is compared.

    Args:
        folder: where models and results are kept.
        forms: names of what is compared; :data:`PLAIN` is always among them.
        draws: how many draws of people, from 0; a base and an oracle of each.
        attacks: by which every model is relearned.
        processes: jobs that run at once.
        size: of every world.

    Raises:
        ExpungeError: a form is not known, or draws that were tuned on would be reported.
    """

    folder: Path
    forms: tuple[str, ...] = QUICK
    draws: int = 1
    attacks: tuple[Attack, ...] = ATTACKS
    processes: int = 2
    size: Size = field(default_factory=Size)

    def __post_init__(self) -> None:
        known = [form.name for form in FORMS]
        unknown = [name for name in self.forms if name not in known]
        if unknown:
            raise ExpungeError(
                f"The form {unknown[0]!r} was given; one of {', '.join(known)} is expected."
            )
        if not 1 <= self.draws <= min(MOST, FIRST_TUNING):
            raise ExpungeError(f"{self.draws} draws were given; 1 to {MOST} are expected.")
        outside = [a.people for a in self.attacks if not 0 < a.people < self.size.corner]
        if outside or not self.attacks:
            raise ExpungeError(
                f"Attacks that show facts about {outside or 'no'} people were given; from 1 to "
                f"{self.size.corner - 1} are expected, so that there is somebody to ask about."
            )

    def conduct(self, told: Told) -> dict[str, Any]:
        """Everything; JSON values."""
        stages = [
            Stage(Place(self.folder, draw, self.size), SEED, self.attacks)
            for draw in range(self.draws)
        ]
        both = [(stage, oracle) for stage in stages for oracle in (False, True)]
        self._jobs([stage.trained(oracle=oracle) for stage, oracle in both], told)
        references = self._jobs([Describing(stage, oracle) for stage, oracle in both], told)
        forms = [form for form in FORMS if form.name in (PLAIN.name, *self.forms)]
        answers = self._jobs(
            [Answering(s, form, way) for way in (True, False) for s in stages for form in forms],
            told,
        )
        return {
            "size": asdict(self.size),
            "draws": self.draws,
            "attacks": [asdict(attack) for attack in self.attacks],
            "references": [
                {"draw": job.stage.place.draw, "oracle": job.oracle, **found}
                for job, found in references.items()
            ],
            "answers": [
                {
                    "form": job.form.name,
                    "way": "level" if job.at_level else "preset",
                    "draw": job.stage.place.draw,
                    **found,
                }
                for job, found in answers.items()
            ],
        }

    def _jobs(self, jobs: Sequence[Some], told: Told) -> dict[Some, Any]:
        return dict(by_job(jobs, self.folder / "results", self.processes, told))
