"""Populations on disk: models by how they were made, and their answers by model and rows.

A population that was stopped goes on with the members that are missing. Answers are asked once
(models x rows x classes, float32) and read back memory-mapped: metrics and attacks are functions of
them.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import nn

from expunge.audit.case import described, digest_of_rooms, digest_of_samples, digest_of_settings
from expunge.changes.weights import digest_of, load_stored, stored_tensors
from expunge.data.samples import Samples
from expunge.errors import ExpungeError, IntegrityError
from expunge.learning.population import Engine, Member, Population
from expunge.signals.ask import predict
from expunge.signals.predictions import Predictions
from expunge.storage import read_facts, read_tensors, write_tensors

Told = Callable[[int, int], None]
"""Is told how many members are done, and of how many."""


@dataclass(frozen=True, eq=False)
class KeptPopulation:
    """A population whose members are trained once.

    Args:
        population: how its members are trained.
        folder: where models and answers are kept.
    """

    population: Population
    folder: Path

    def models(
        self, wanted: Sequence[Member], told: Told | None = None, engine: Engine | None = None
    ) -> list[nn.Module]:
        """The model of every member, in their order; those that are missing are trained.

        Each is stored when it is done, with the seed and the engine that trained it.

        Args:
            wanted: the members, each once.
            told: is told of progress.
            engine: as :meth:`~expunge.learning.population.Population.trained`.

        Raises:
            ExpungeError: a member is wanted twice, or one cannot be trained.
        """
        if len(set(wanted)) < len(wanted):
            raise ExpungeError(
                f"{len(wanted)} members are wanted and {len(set(wanted))} of them differ; each is "
                "expected once. Give every member its own seed."
            )
        like = self.population.recipe.builder(0)
        found = {one: model for one in wanted if (model := self._stored(one, like)) is not None}
        left = [one for one in wanted if one not in found]
        if left:
            how = engine or self.population.timed(left).engine
            for one, model in self.population.trained(left, how):
                facts = {"seed": one.seed, "rows": len(one.rows), "engine": how}
                write_tensors(self._path(one), stored_tensors(model), facts)
                found[one] = model
                if told is not None:
                    told(len(found), len(wanted))
        return [found[one] for one in wanted]

    def predictions(
        self,
        wanted: Sequence[Member],
        asked: Samples,
        told: Told | None = None,
        engine: Engine | None = None,
    ) -> Predictions:
        """What every member answers on rows; asked once and kept.

        The models are named by their seeds.

        Args:
            wanted: the members, each once.
            asked: the rows.
            told: is told of progress.
            engine: as :meth:`models`.

        Raises:
            ExpungeError: as :meth:`models`; the family has no logits; an answer is not finite.
        """
        rows = digest_of_samples(asked)
        facts = {"rows": rows, "models": [self._key(one) for one in wanted]}
        name = hashlib.sha256(repr(facts).encode()).hexdigest()
        path = self.folder / "answers" / f"{name}.safetensors"
        if not path.exists():
            models = self.models(wanted, told, engine)
            parts = [
                predict(self.population.recipe.family, model, asked, self.population.run)
                for model in models
            ]
            logits = torch.cat([part.logits for part in parts])
            write_tensors(path, {"logits": logits, "labels": parts[0].labels}, facts)
        return read_answers(path, [str(one.seed) for one in wanted], asked, rows)

    def _path(self, one: Member) -> Path:
        return self.folder / "models" / f"{self._key(one)}.safetensors"

    def _stored(self, one: Member, like: nn.Module) -> nn.Module | None:
        path = self._path(one)
        try:
            return load_stored(like, read_tensors(path), f"The file {path}")
        except IntegrityError:  # none, or damaged: it is trained again
            return None

    def _key(self, one: Member) -> str:
        parts = repr((self._depends_on, one.seed, one.rows))
        return hashlib.sha256(parts.encode()).hexdigest()

    @cached_property
    def _depends_on(self) -> tuple[object, ...]:
        """All that a model depends on beside its member."""
        recipe, run = self.population.recipe, self.population.run
        untrained = recipe.builder(0)
        return (
            described(recipe.learner),
            described(recipe.family),
            digest_of(untrained),
            digest_of_settings(untrained),
            digest_of_samples(self.population.samples),
            (run.seed, run.precision),
            digest_of_rooms(("descent", "learning", "families")),
            torch.__version__,
        )


def read_answers(
    path: Path, models: Sequence[str], asked: Samples, rows: str | None = None
) -> Predictions:
    """Answers that were kept, memory-mapped.

    Args:
        path: the file.
        models: their names, in the order of the file.
        asked: the rows that they were asked about.
        rows: the digest of ``asked``, where it is known already.

    Raises:
        IntegrityError: the file is damaged, or no file of answers.
        ExpungeError: it holds the answers of other rows or of another number of models.
    """
    facts, tensors = read_facts(path), read_tensors(path)
    if facts.get("rows") != (rows or digest_of_samples(asked)):
        raise ExpungeError(
            f"{path} holds answers on other rows than the {len(asked)} that were asked for; ask "
            "the models again, or give the rows that they were asked about."
        )
    if len(tensors["logits"]) != len(models):
        raise ExpungeError(
            f"{path} holds the answers of {len(tensors['logits'])} models and {len(models)} names "
            "were given; one for each is expected."
        )
    return Predictions(
        tensors["logits"],
        tensors["labels"],
        tuple(models),
        tuple(asked.ids),
        tuple(asked.subjects),
    )
