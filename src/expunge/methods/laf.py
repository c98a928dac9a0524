"""LAF: forgetting without labels, by what rows look like inside the model.

Shen, Zhang, Zhao, Bialkowski, Chen, Xu (2024). Label-Agnostic Forgetting: A Supervision-Free
Unlearning in Deep Models (ICLR 2024). An autoencoder h learns the embeddings of all rows, another
one, h_f, those of the forget rows. Then, batch by batch, two steps, each with an optimiser of its
own, on the same rows: retain rows are to stay explained by h while forget rows leave what h_f
explains (extractor unlearning); and retain embeddings are to keep their direction while those of
forget rows leave theirs (representation alignment). The head gets no gradient of either.

Formulas and defaults are those of the released code for a convolutional network on MNIST; the
temperature is 20 there for classes and 5 for single rows. The paper fits h to the retain rows, the
code to all of them (``of_retain``). Where the published form ends its autoencoders in a sigmoid and
draws their codes, here the last layer is linear, errors are shares of what there is to explain
(:mod:`~expunge.learning.representations`) and rows are explained by the mean of their code.
"""

import math
from abc import ABC
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Self

from torch import nn

from expunge.changes.weights import digest_of, stored_tensors
from expunge.descent.embedding_terms import Far, Near, Unexplained
from expunge.descent.length import Epochs, batches_of
from expunge.descent.loop import Descent
from expunge.descent.optimisers import AdamW
from expunge.descent.player import Player
from expunge.errors import ExpungeError, IntegrityError
from expunge.families.abilities import HasEmbeddings
from expunge.families.heads import embeddings_of
from expunge.learning.representations import Explainer
from expunge.methods.presets import Reach, takes_classes
from expunge.methods.protocol import Artifact, Outcome
from expunge.methods.search import LogUniform, Range, WholeNumber
from expunge.models.representation_vae import RepresentationVae
from expunge.problem import Access, Problem
from expunge.recipe import Role
from expunge.run import Run

KEPT, GONE = "of kept rows", "of forget rows"
"""The names of the two companions that the method makes, h and h_f."""

REACH = Reach(classes=4.0, rows=4.0)
"""How far the alignment of the preset could lead; the unlearning goes half as far, as published.
The published rates lead about six times the norm of the weights on a class of MNIST."""

STEPS, SMALLEST = 300, 16
"""Steps of the preset at least, and rows of a batch at least, where there are as many: the
published passes over a class of MNIST are 1,880 steps."""

CLASSES, ROWS = 20.0, 5.0
"""The published temperatures where classes go, and where rows do."""


@dataclass(frozen=True)
class ByRepresentations(ABC):
    """The steps that read no label, which both forms have in common.

    Args:
        latent: numbers of a code of the autoencoders (16 for a ResNet-18).
        epochs: passes over the forget set, with as many retain rows beside it.
        extractor_learning_rate: of Adam, in the unlearning of the extractor; 0 leaves it out.
        alignment_learning_rate: of Adam, in the alignment; 0 leaves it out.
        temperature: of the forget rows in the alignment; the higher, the less they weigh.
        batch_size: rows a step, of either set.
        vae_epochs: passes of an autoencoder over its embeddings.
        vae_steps: its steps at least, however few rows there are: the published passes over a class
            of MNIST.
        vae_learning_rate: of Adam, in its fit.
        of_retain: fit h to the retain rows at each request, as the paper says, in the place of all
            training rows once, as the released code does.
        as_published: autoencoders that end in a sigmoid, on embeddings as they are.
        inputs: the fields that the family calls the model with; the only ones that are opened.
        sequential: start from the current model instead of the base.

    Raises:
        ExpungeError: both rates are 0, or a number is below its least.
    """

    needs: ClassVar[tuple[type, ...]] = (HasEmbeddings,)
    name: ClassVar[str]

    latent: int = 8
    epochs: int = 20
    extractor_learning_rate: float = 5e-5
    alignment_learning_rate: float = 1e-4
    temperature: float = 5.0
    batch_size: int = 64
    vae_epochs: int = 10
    vae_steps: int = 300
    vae_learning_rate: float = 1e-3
    of_retain: bool = False
    as_published: bool = False
    inputs: tuple[str, ...] = ("image",)
    sequential: bool = False

    def __post_init__(self) -> None:
        rates = self.extractor_learning_rate, self.alignment_learning_rate
        if min(rates) < 0 or not any(rates) or self.temperature <= 0 or self.latent < 1:
            raise ExpungeError(
                f"{self.name} got the rates {rates[0]:g} and {rates[1]:g}, the temperature "
                f"{self.temperature:g} and codes of {self.latent} numbers; rates of at least 0, "
                "one of them above, a temperature above 0 and at least one number are expected."
            )
        counts = self.epochs, self.batch_size, self.vae_epochs
        if min(counts) < 1 or self.vae_steps < 0 or not self.vae_learning_rate > 0:
            raise ExpungeError(
                f"{self.name} got {self.epochs} epochs of {self.batch_size} rows a step, and "
                f"{self.vae_epochs} epochs or {self.vae_steps} steps of an autoencoder at the rate "
                f"{self.vae_learning_rate:g}; at least 1 of each is expected, 0 or more of the "
                "steps, and a rate above 0."
            )

    @property
    def prepares_with(self) -> Access:
        """The inputs of the training set, where h is fitted to it."""
        if self.of_retain or not self.extractor_learning_rate:
            return Access()
        return Access({Role.TRAIN: frozenset(self.inputs)})

    @property
    def preparation(self) -> object:
        """What h depends on; None where none is prepared."""
        return (self.explainer, self.inputs) if self.prepares_with.roles else None

    @property
    def explainer(self) -> Explainer:
        """How both autoencoders are fitted."""
        return Explainer(
            self.latent,
            self.vae_epochs,
            self.vae_steps,
            self.vae_learning_rate,
            as_published=self.as_published,
        )

    def prepare(self, problem: Problem, run: Run) -> Artifact:
        """The autoencoder h, and the model it belongs to."""
        if self.preparation is None:
            return Artifact()
        tensors = stored_tensors(self._fitted(problem, Role.TRAIN, KEPT, run))
        found = {name: tensor.detach().clone() for name, tensor in tensors.items()}
        return Artifact(found, {"model": digest_of(problem.model), "fit": repr(self.preparation)})

    def unlabelled(self) -> Descent:
        """Two players on one model and the same rows; one where a rate is 0."""
        fields, players = frozenset(self.inputs), []
        if self.extractor_learning_rate:
            unlearning = Player(
                forget=Unexplained(GONE, -1.0, fields=fields),
                retain=Unexplained(KEPT, fields=fields),
                optimiser=AdamW(self.extractor_learning_rate),
                batches="pairs",
            )
            players.append(unlearning)
        if self.alignment_learning_rate:
            alignment = Player(
                forget=Far(self.temperature, fields=fields),
                retain=Near(fields=fields),
                optimiser=AdamW(self.alignment_learning_rate),
                batches="pairs",
            )
            players.append(alignment)
        return Descent(*players, length=Epochs(self.epochs), batch_size=self.batch_size)

    def extracted(self, problem: Problem, artifact: Artifact, run: Run) -> nn.Module:
        """The model after both steps on every batch, of a problem without labels.

        Raises:
            IntegrityError: h was prepared on another model, or is fitted otherwise.
        """
        explainers = dict[str, nn.Module]()
        if self.extractor_learning_rate:
            explainers[KEPT] = self._kept(problem, artifact, run)
            explainers[GONE] = self._fitted(problem, Role.FORGET, GONE, run)
        beside = {**problem.companions, **explainers}
        return self.unlabelled().minimise(replace(problem, companions=beside), run).model

    def at_reach(self, problem: Problem) -> Self:
        """Enough steps, at rates that lead as far as :data:`REACH` says, in the published ratio;
        the published temperature for classes or for rows. A step that is left out stays so."""
        rows = len(problem.data[Role.FORGET])
        size = min(self.batch_size, max(SMALLEST, rows // SMALLEST))
        each = batches_of(rows, size)
        epochs = max(self.epochs, math.ceil(STEPS / each))
        rate = REACH.adam_rate(problem, epochs * each)
        return replace(
            self,
            epochs=epochs,
            batch_size=size,
            extractor_learning_rate=rate / 2 if self.extractor_learning_rate else 0.0,
            alignment_learning_rate=rate if self.alignment_learning_rate else 0.0,
            temperature=CLASSES if takes_classes(problem) else ROWS,
        )

    def _kept(self, problem: Problem, artifact: Artifact, run: Run) -> RepresentationVae:
        if self.of_retain:
            return self._fitted(problem, Role.RETAIN, KEPT, run)
        given = artifact.facts.get("model"), artifact.facts.get("fit")
        if given != (digest_of(problem.model), repr(self.preparation)):
            raise IntegrityError(
                f"The autoencoder was prepared on the model {str(given[0])[:12]} as {given[1]}, "
                f"and this is {digest_of(problem.model)[:12]}, for which {self.name} reads "
                f"{self.preparation!r}; prepare it again on this model with these fields."
            )
        return self.explainer.restored(artifact.tensors)

    def _fitted(self, problem: Problem, role: Role, name: str, run: Run) -> RepresentationVae:
        rows = problem.data[role]
        run.meter.touch(role.value, len(rows))
        found = embeddings_of(problem.family, problem.model, rows, run)
        return self.explainer.fit(found, run, f"autoencoder {name}")


@dataclass(frozen=True)
class LAF(ByRepresentations):
    """Label-agnostic forgetting: no label is read, while preparing or unlearning."""

    name: ClassVar[str] = "laf"
    paper: ClassVar[str] = "Shen et al. 2024, Label-Agnostic Forgetting"
    search: ClassVar[Mapping[str, Range]] = {
        "extractor_learning_rate": LogUniform(1e-6, 1e-2),
        "alignment_learning_rate": LogUniform(1e-6, 1e-2),
        "epochs": WholeNumber(5, 100),
        "temperature": LogUniform(1.0, 50.0),
    }
    preset_rule: ClassVar[str] = (
        "300 steps or more; the learning rates at which they could move the weights by 4 times "
        "their norm in the alignment, half as far in the unlearning; "
        "temperature 20 (5)"
    )

    @property
    def unlearns_with(self) -> Access:
        """The inputs of the forget and the retain set."""
        return self.unlabelled().access

    def for_problem(self, problem: Problem, run: Run) -> Self:
        """These fields at the reach of the preset; no label is read for it."""
        return self.at_reach(problem)

    def unlearn(self, problem: Problem, artifact: Artifact, run: Run) -> Outcome:
        """Where the descent ends.

        Raises:
            IntegrityError: the artifact was prepared on another model or with other fields.
        """
        after = self.extracted(problem, artifact, run)
        return Outcome.of(after, problem.model, sequential=self.sequential, method=self.name)
