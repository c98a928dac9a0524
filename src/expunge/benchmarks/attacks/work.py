"""The pieces of the benchmark: all attacks on a base or an oracle, and on what a method left.

Bases, oracles and the way a method is asked are those of the benchmark of facts, so that models
which it has trained are found again.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass

from expunge.audit.case import digest_of_rooms, reason_of
from expunge.benchmarks.attacks.battery import Battery
from expunge.benchmarks.attacks.rows import AttackRows
from expunge.benchmarks.facts.work import Asking, Training
from expunge.benchmarks.jobs import Result
from expunge.errors import ExpungeError
from expunge.run import Run

CODE = ("attacks", "benchmarks/attacks")
"""Rooms that results depend on beside those of the benchmark of facts."""


@dataclass(frozen=True)
class AttackingTrained:
    """Attack a base or an oracle."""

    training: Training

    @property
    def title(self) -> str:
        """That of the training, and that it is attacked."""
        return f"{self.training.title}: attacked"

    def depends_on(self) -> Mapping[str, object]:
        """The training, the world, the attacks."""
        training = self.training
        return {
            **training.depends_on(),
            **training.place.facts(),
            "attacks": digest_of_rooms(CODE),
        }

    def done(self) -> Result:
        """What every attack finds."""
        world = self.training.place.world
        rows = AttackRows(world, world.size.corner)
        return Battery(rows, self.training.model(), Run(self.training.seed)).conduct()


@dataclass(frozen=True)
class AttackingUnlearned:
    """Let a method forget the first people at once, and attack what it leaves."""

    asking: Asking

    @property
    def title(self) -> str:
        """Draw, method, seed."""
        asking = self.asking
        return f"draw {asking.place.draw}: {asking.method}, seed {asking.seed}: attacked"

    def depends_on(self) -> Mapping[str, object]:
        """The asking and the attacks."""
        return {**self.asking.facts(), "attacks": digest_of_rooms(CODE)}

    def done(self) -> Result:
        """What every attack finds; or why the method refused or failed."""
        asking, start = self.asking, time.process_time()
        world, deployment = asking.place.world, asking.deployment()
        try:
            deployment.forget(world.corner(), asking.made(), Run(asking.seed))
            model = deployment.model
        except ExpungeError as error:
            return {"refused": reason_of(error)}
        except Exception as error:  # a method may fail in any way; the others go on
            return {"failed": reason_of(error)}
        seconds = time.process_time() - start
        rows = AttackRows(world, world.size.corner)
        return {**Battery(rows, model, Run(asking.seed)).conduct(), "seconds": seconds}
