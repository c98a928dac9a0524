"""The signatures of the hardest methods, without bodies, held against the interfaces.

Each method is a frozen dataclass with the hyper-parameters and defaults of its card. Its Descent is
a real expression: constructing one is cheap, and its access follows from its terms. The checker
verifies every method, term, source, parameter choice and guard against our Protocols; importing
this module runs no method.
"""
# mypy: disable-error-code="empty-body"

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Protocol, Self, runtime_checkable

from torch import Generator, Tensor, nn

from expunge.changes.delta import Delta
from expunge.changes.kinds import Adapter, Guard, Redaction, Replacement
from expunge.data.samples import Batch, Samples
from expunge.descent.averages import MovingAverage
from expunge.descent.denoising_sources import OwnPictures, UniformPictures
from expunge.descent.forget_terms import Ascent
from expunge.descent.length import Epochs, Steps
from expunge.descent.loop import Descent
from expunge.descent.optimisers import SGD, AdamW, Optimiser, Schedule
from expunge.descent.player import (
    Adversary,
    Matching,
    On,
    Parameters,
    Player,
    Setting,
    Source,
    StepGradients,
    Term,
    Transform,
)
from expunge.descent.retain_terms import Loss
from expunge.descent.score_distillation import FakeScore, ScoreIdentity
from expunge.descent.transforms import ClipNorm, ClipValue, ProjectConflicts
from expunge.families.abilities import (
    Family,
    HasEmbeddings,
    HasLogits,
    HasLoss,
    HasNeutral,
    HasOutputs,
)
from expunge.families.diffusion import Diffusion
from expunge.methods.protocol import Artifact, ByDescent, Method, Outcome
from expunge.methods.sfd import SFD
from expunge.problem import Access, Fields, Problem
from expunge.recipe import Learner, Record, Role, Trained
from expunge.run import Run
from expunge.storage import Bundle

IMAGE: Fields = frozenset({"image"})
IDS: Fields = frozenset()
"""No field: what remains readable of such a role are the ids of its rows."""

Abilities = tuple[type, ...]


# ---- abilities that these methods ask of families, beside those of expunge.families -------------


@runtime_checkable
class HasLayers(Protocol):
    """Node or token embeddings of every layer."""

    def layers(self, model: nn.Module, batch: Batch) -> Sequence[Tensor]:
        """One (N, D) tensor a layer."""
        ...


# ---- schedules and transforms that are not yet in expunge.descent -------------------------------


@dataclass(frozen=True)
class WarmUp:
    """Linear rise over ``steps``, then constant."""

    steps: int

    def share(self, step: int, total: int) -> float: ...


@dataclass(frozen=True)
class Decay:
    """Times ``factor`` after each of ``pieces`` equal parts of the descent."""

    factor: float
    pieces: int

    def share(self, step: int, total: int) -> float: ...


_schedules: tuple[Schedule, ...] = (WarmUp(5000), Decay(0.95, 4))
_clip_value: Transform = ClipValue()


# ---- NPO and GradDiff: two Descents that differ in their access (language/npo) -------------------


@dataclass(frozen=True)
class NegativePreference:
    """-(2/beta) log sigmoid(beta (L - L_ref)); ``start`` caches L_ref (n,), read by ``row``."""

    beta: float = 0.1
    weight: float = 1.0
    every: int = 1
    batch_size: int | None = None
    fields: Fields = None
    needs: ClassVar[Abilities] = (HasLoss,)

    def start(self, setting: Setting, samples: Samples) -> Tensor: ...
    def value(self, setting: Setting, batch: Batch, prepared: object) -> Tensor: ...


@dataclass(frozen=True)
class NPO(ByDescent):
    """NPO; with ``retain_weight`` 1 it is NPO+RT."""

    name: ClassVar[str] = "npo"
    paper: ClassVar[str] = "Zhang et al. 2024, Negative Preference Optimization"

    beta: float = 0.1
    retain_weight: float = 0.0
    learning_rate: float = 1e-5
    weight_decay: float = 0.01
    batch_size: int = 32
    epochs: int = 10
    sequential: bool = False

    def descent(self) -> Descent:
        return Descent(
            Player(
                forget=NegativePreference(self.beta),
                retain=Loss(self.retain_weight),
                optimiser=AdamW(self.learning_rate, weight_decay=self.weight_decay),
            ),
            length=Epochs(self.epochs),
            batch_size=self.batch_size,
        )


@dataclass(frozen=True)
class GradDiff(ByDescent):
    """-CE on the forget set + CE on the retain set."""

    name: ClassVar[str] = "gradient-difference"
    paper: ClassVar[str] = "Liu et al. 2022, Continual Learning and Private Unlearning"

    learning_rate: float = 1e-5
    weight_decay: float = 0.01
    batch_size: int = 32
    epochs: int = 10
    sequential: bool = False

    def descent(self) -> Descent:
        return Descent(
            Player(
                forget=Ascent(),
                retain=Loss(),
                optimiser=AdamW(self.learning_rate, weight_decay=self.weight_decay),
            ),
            length=Epochs(self.epochs),
            batch_size=self.batch_size,
        )


_negative_preference: Term = NegativePreference()
_npo: Method = NPO()
_npo_rt: Method = NPO(retain_weight=1.0)
_grad_diff: Method = GradDiff()


# ---- DoCo: two players, one a companion, with gradient surgery (generative/doco) -----------------


@dataclass(frozen=True)
class FoolDiscriminator:
    """BCE of the discriminator on x_hat(eps_theta(x_t, t, target prompt)), label "anchor".

    The live companion is ``setting.modules["discriminator"]``.
    """

    weight: float = 1.0
    every: int = 1
    batch_size: int | None = None
    fields: Fields = frozenset({"image", "target_prompt"})
    needs: ClassVar[Abilities] = (Diffusion,)

    def start(self, setting: Setting, samples: Samples) -> None: ...
    def value(self, setting: Setting, batch: Batch, prepared: object) -> Tensor: ...


@dataclass(frozen=True)
class TellAnchorFromErased:
    """BCE of the discriminator: ``setting.reference()`` under the anchor prompt against the live
    model under the target prompt, at the same drawn x_t."""

    weight: float = 1.0
    every: int = 1
    batch_size: int | None = None
    fields: Fields = frozenset({"image", "prompt", "target_prompt"})
    needs: ClassVar[Abilities] = (Diffusion,)

    def start(self, setting: Setting, samples: Samples) -> None: ...
    def value(self, setting: Setting, batch: Batch, prepared: object) -> Tensor: ...


@dataclass(frozen=True)
class ConceptPreservingGradient:
    """Step with ``move``'s clipped gradient less its conflict with ``keep``'s, tensor by tensor.

    Unlike ProjectConflicts it does not add ``keep``'s own gradient. A player without the two terms
    gets its plain gradient.
    """

    move: str = "adversarial"
    keep: str = "prior"
    strength: float = 1.0
    clip: float = 1.0

    def gradients(self, at: StepGradients) -> list[Tensor]: ...


@dataclass(frozen=True)
class DoCo:
    """Reads pictures of the anchor concept that the model drew itself, never the target's."""

    name: ClassVar[str] = "doco"
    paper: ClassVar[str] = "Wu et al. 2025, Unlearning Concepts in Diffusion Model"
    sequential: ClassVar[bool] = False

    steps: int = 2000
    warm_up: int = 1000
    learning_rate: float = 6e-6
    weight_decay: float = 1e-2
    discriminator_learning_rate: float = 1e-4
    batch_size: int = 8
    prior_weight: float = 1.0
    strength: float = 1.0
    clip: float = 1.0

    def descent(self) -> Descent:
        return Descent(
            Player(
                others={
                    "adversarial": On(Role.ALTERNATIVES, FoolDiscriminator()),
                    "prior": On(Role.PRIOR, Loss(self.prior_weight)),
                },
                parameters=Matching(("attn2.to_k", "attn2.to_v")),
                optimiser=AdamW(self.learning_rate, weight_decay=self.weight_decay),
                start=self.warm_up,
            ),
            Player(
                "discriminator",
                others={"judge": On(Role.ALTERNATIVES, TellAnchorFromErased())},
                optimiser=AdamW(self.discriminator_learning_rate, betas=(0.5, 0.999)),
            ),
            length=Steps(self.steps),
            batch_size=self.batch_size,
            transform=ConceptPreservingGradient(strength=self.strength, clip=self.clip),
        )

    @property
    def needs(self) -> Abilities:
        return self.descent().needs

    @property
    def prepares_with(self) -> Access:
        return Access()

    @property
    def unlearns_with(self) -> Access:
        return self.descent().access

    def discriminator(self, channels: int, pixels: int) -> nn.Module: ...
    def prepare(self, problem: Problem, run: Run) -> Artifact: ...

    def unlearn(self, problem: Problem, artifact: Artifact, run: Run) -> Outcome:
        """Adds the companion ``discriminator`` to the problem; a Delta of the moved weights."""
        ...


_doco_terms: tuple[Term, ...] = (FoolDiscriminator(), TellAnchorFromErased())
_surgery: Transform = ConceptPreservingGradient()
_pcgrad: Transform = ProjectConflicts()
_doco: Method = DoCo()


# ---- SFD: two players on one source of their own, no data; it is built (methods/sfd.py) ----------


_sfd_sources: tuple[Source, ...] = (OwnPictures(), UniformPictures())
_sfd_terms: tuple[Term, ...] = (FakeScore(), ScoreIdentity())
_sfd: Method = SFD()


# ---- MSGM: a moderation that acts every fourth step (generative/msgm) ----------------------------


@dataclass(frozen=True)
class Orthogonal:
    """Mean of (s std z)^2, element by element; ``outputs`` is the noise, ``noise`` is drawn."""

    weight: float = 0.01
    every: int = 4
    batch_size: int | None = None
    fields: Fields = IMAGE
    needs: ClassVar[Abilities] = (HasOutputs,)

    def start(self, setting: Setting, samples: Samples) -> None: ...
    def value(self, setting: Setting, batch: Batch, prepared: object) -> Tensor: ...


@dataclass(frozen=True)
class Obtuse:
    """Mean of <s, -z / std>; ``released_sign`` -1 is the sign of the released code."""

    weight: float = 0.01
    every: int = 4
    released_sign: int = 1
    batch_size: int | None = None
    fields: Fields = IMAGE
    needs: ClassVar[Abilities] = (HasOutputs,)

    def start(self, setting: Setting, samples: Samples) -> None: ...
    def value(self, setting: Setting, batch: Batch, prepared: object) -> Tensor: ...


@dataclass(frozen=True)
class Bounded:
    """D cos(n, z): bounded below and free of scale (the card's own variant)."""

    weight: float = 0.1
    every: int = 1
    batch_size: int | None = None
    fields: Fields = IMAGE
    needs: ClassVar[Abilities] = (HasOutputs,)

    def start(self, setting: Setting, samples: Samples) -> None: ...
    def value(self, setting: Setting, batch: Batch, prepared: object) -> Tensor: ...


@dataclass(frozen=True)
class MSGM(ByDescent):
    """Fine-tuning form: denoising on the retain set, moderation on the forget set."""

    name: ClassVar[str] = "msgm"
    paper: ClassVar[str] = "Jiang et al. 2025, Moderating the Generalization of Score-based Models"

    moderation: Term = field(default_factory=Orthogonal)
    learning_rate: float = 2e-4
    warm_up: int = 5000
    steps: int = 660_000
    batch_size: int = 400
    clip: float = 1.0
    decay: float = 0.9999
    sequential: bool = False

    def descent(self) -> Descent:
        return Descent(
            Player(
                forget=self.moderation,
                retain=Loss(1 - self.moderation.weight, fields=IMAGE),
                optimiser=AdamW(self.learning_rate, schedule=WarmUp(self.warm_up)),
            ),
            length=Steps(self.steps),
            batch_size=self.batch_size,
            transform=ClipNorm(self.clip),
            average=MovingAverage(self.decay),
        )


@dataclass(frozen=True)
class MSGMFromScratch:
    """The re-training form: the same descent from the recipe's untrained weights."""

    name: ClassVar[str] = "msgm-from-scratch"
    paper: ClassVar[str] = MSGM.paper
    sequential: ClassVar[bool] = True

    fine_tuned: MSGM = field(default_factory=MSGM)

    @property
    def needs(self) -> Abilities:
        return self.fine_tuned.needs

    @property
    def prepares_with(self) -> Access:
        return Access()

    @property
    def unlearns_with(self) -> Access:
        return self.fine_tuned.unlearns_with | Access(recipe=True)

    def prepare(self, problem: Problem, run: Run) -> Artifact: ...
    def unlearn(self, problem: Problem, artifact: Artifact, run: Run) -> Outcome: ...


_moderations: tuple[Term, ...] = (Orthogonal(), Obtuse(), Bounded())
_msgm: Method = MSGM()
_msgm_from_scratch: Method = MSGMFromScratch()


# ---- LAF: two players on one model, pictures without labels (classification/laf) -----------------


@dataclass(frozen=True)
class Explained:
    """``sign`` x mean of exp(r / (r + 1)), r the error of a VAE on the embeddings of its own role.

    ``start`` fits the VAE on the embeddings that ``setting.reference()`` gives of ``samples``.
    """

    sign: float
    latent: int = 8
    vae_epochs: int = 10
    vae_learning_rate: float = 1e-3
    divergence_weight: float = 0.025
    weight: float = 1.0
    every: int = 1
    batch_size: int | None = None
    fields: Fields = IMAGE
    needs: ClassVar[Abilities] = (HasEmbeddings,)

    def start(self, setting: Setting, samples: Samples) -> nn.Module: ...
    def value(self, setting: Setting, batch: Batch, prepared: object) -> Tensor: ...


@dataclass(frozen=True)
class Near:
    """Mean of d(e, e0) = 1 - cos over the retain batch: the numerator of L_RA for each sample."""

    weight: float = 1.0
    every: int = 1
    batch_size: int | None = None
    fields: Fields = IMAGE
    needs: ClassVar[Abilities] = (HasEmbeddings,)

    def start(self, setting: Setting, samples: Samples) -> None: ...
    def value(self, setting: Setting, batch: Batch, prepared: object) -> Tensor: ...


@dataclass(frozen=True)
class Far:
    """-log sum of exp(d(e, e0) / tau) over the forget batch: the denominator of L_RA.

    It is the same for every retain sample, so that the ratio of the card is a sum of two terms.
    """

    temperature: float = 5.0
    weight: float = 1.0
    every: int = 1
    batch_size: int | None = None
    fields: Fields = IMAGE
    needs: ClassVar[Abilities] = (HasEmbeddings,)

    def start(self, setting: Setting, samples: Samples) -> None: ...
    def value(self, setting: Setting, batch: Batch, prepared: object) -> Tensor: ...


@dataclass(frozen=True)
class LAF(ByDescent):
    """Extractor unlearning, then representation alignment, each with an optimiser of its own."""

    name: ClassVar[str] = "laf"
    paper: ClassVar[str] = "Shen et al. 2024, Label-Agnostic Forgetting"

    latent: int = 8
    epochs: int = 20
    unlearning_rate: float = 5e-5
    alignment_rate: float = 1e-4
    temperature: float = 5.0
    batch_size: int = 64
    sequential: bool = False

    def descent(self) -> Descent:
        return Descent(
            Player(
                forget=Explained(-1.0, self.latent),
                retain=Explained(1.0, self.latent),
                optimiser=AdamW(self.unlearning_rate),
            ),
            Player(
                forget=Far(self.temperature),
                retain=Near(),
                optimiser=AdamW(self.alignment_rate),
            ),
            length=Epochs(self.epochs, of=Role.FORGET),
            batch_size=self.batch_size,
        )


_laf_terms: tuple[Term, ...] = (Explained(1.0), Near(), Far())
_laf: Method = LAF()


# ---- S3T: exact, by dropping what saw the row (classification/s3t) -------------------------------


@dataclass(frozen=True)
class SliceTree:
    """A view of the record: shards, slices, slice orders, and one node for each distinct prefix."""

    record: Record

    def slices_of(self, ids: Sequence[str]) -> frozenset[tuple[int, int]]:
        """The (shard, slice) pairs that hold these rows."""
        ...

    def node(self, shard: int, prefix: tuple[int, ...]) -> Mapping[str, Tensor]:
        """The adapter groups and the head as trained after the last slice of ``prefix``."""
        ...

    def pruned(self, slices: frozenset[tuple[int, int]]) -> Record:
        """The record without every node that saw one of ``slices``."""
        ...

    def best(self, shard: int) -> tuple[int, ...]:
        """The longest prefix that is left; empty where the shard is dead."""
        ...

    @property
    def dead(self) -> bool:
        """Whether no sequence of any shard is left; retrain."""
        ...


@dataclass(frozen=True)
class ShardedSlices:
    """The learner that makes the record."""

    shards: int = 5
    slices: int = 6
    budget: int = 6
    rank: int = 16
    alpha: float = 16.0
    dropout: float = 0.1
    targets: tuple[str, ...] = ("query", "value")
    learning_rate: float = 2e-4
    epochs: int = 15
    batch_size: int = 128

    def fit(
        self, model: nn.Module, family: Family, data: Mapping[Role, Samples], run: Run
    ) -> Trained: ...


@dataclass(frozen=True)
class S3T:
    """Reads the ids of the forget set and the record; no row, no gradient. ``otherwise`` answers
    once nothing is left, with its own access; without it such a request is refused."""

    name: ClassVar[str] = "s3t"
    paper: ClassVar[str] = "Basu Roy Chowdhury et al. 2025, Towards Scalable Exact Unlearning"
    sequential: ClassVar[bool] = True
    needs: ClassVar[Abilities] = ()
    prepares_with: ClassVar[Access] = Access()

    otherwise: Method | None = None

    @property
    def unlearns_with(self) -> Access:
        own = Access({Role.FORGET: IDS}, record=True)
        return own if self.otherwise is None else own | self.otherwise.unlearns_with

    def prepare(self, problem: Problem, run: Run) -> Artifact: ...

    def unlearn(self, problem: Problem, artifact: Artifact, run: Run) -> Outcome:
        """A Replacement with the surviving prefixes, and the pruned record."""
        ...


_sharded: Learner = ShardedSlices()
_s3t: Method = S3T()


# ---- D2DGN: two teachers, a Delta and a Redaction together (graph/d2dgn) -------------------------


@dataclass(frozen=True)
class MatchTeacher:
    """KL of the responses, and squared distance of every layer's embeddings, to a teacher.

    ``teacher`` is a frozen companion, or ``None`` for the model at the start (the preserver).
    ``start`` computes the teacher's knowledge of all rows once.
    """

    teacher: str | None
    weight: float
    every: int = 1
    batch_size: int | None = None
    fields: Fields = frozenset({"item", "features", "edges"})
    needs: ClassVar[Abilities] = (HasOutputs, HasLayers)

    def start(self, setting: Setting, samples: Samples) -> tuple[Tensor, Sequence[Tensor]]: ...
    def value(self, setting: Setting, batch: Batch, prepared: object) -> Tensor: ...


@dataclass(frozen=True)
class RemovedParts:
    """Edges and nodes that the served graph loses."""

    removed: Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class D2DGN:
    """The destroyer is untrained: the recipe builds it from a seed of its own."""

    name: ClassVar[str] = "d2dgn"
    paper: ClassVar[str] = "Sinha, Mandal, Kankanhalli 2023, Distill to Delete"
    sequential: ClassVar[bool] = False
    prepares_with: ClassVar[Access] = Access()

    alpha: float = 0.5
    learning_rate: float = 1e-3
    epochs: int = 300
    negatives_per_edge: float = 1.0

    def descent(self) -> Descent:
        return Descent(
            Player(
                forget=MatchTeacher("destroyer", 1 - self.alpha),
                retain=MatchTeacher(None, self.alpha),
                others={"non_edges": On(Role.NEGATIVE, MatchTeacher(None, self.alpha))},
                optimiser=AdamW(self.learning_rate),
            ),
            length=Epochs(self.epochs, of=Role.RETAIN),
            batch_size=1 << 20,
        )

    @property
    def needs(self) -> Abilities:
        return self.descent().needs

    @property
    def unlearns_with(self) -> Access:
        return self.descent().access | Access(recipe=True)

    def prepare(self, problem: Problem, run: Run) -> Artifact: ...

    def unlearn(self, problem: Problem, artifact: Artifact, run: Run) -> Outcome:
        """Adds the companion ``destroyer``; ends in ``answer``."""
        ...

    def answer(self, weights: Delta, parts: RemovedParts) -> Outcome:
        return Outcome((weights, parts))


_match_teacher: Term = MatchTeacher(None, 0.5)
_redaction: Redaction = RemovedParts({"edge": ("0-1",)})
_d2dgn: Method = D2DGN()


# ---- O3: a bank of orthogonal adapters behind a gate (language/o3) -------------------------------


@dataclass(frozen=True)
class RandomLabels:
    """Cross-entropy with a random option as the answer, drawn from ``setting.generator()``."""

    weight: float = 1.0
    every: int = 1
    batch_size: int | None = None
    fields: Fields = None
    needs: ClassVar[Abilities] = (HasLoss, HasNeutral)

    def start(self, setting: Setting, samples: Samples) -> None: ...
    def value(self, setting: Setting, batch: Batch, prepared: object) -> Tensor: ...


@dataclass(frozen=True)
class Nothing:
    """An empty batch, for terms on the weights alone."""

    def batch(self, setting: Setting, size: int, generator: Generator) -> Batch:
        return {}


@dataclass(frozen=True)
class Orthogonality:
    """Sum of |A_j A_t^T|_F^2 over the adapters of the earlier Guards in the problem's history."""

    weight: float = 0.1
    every: int = 1
    batch_size: int | None = None
    fields: Fields = None
    needs: ClassVar[Abilities] = ()

    def start(self, setting: Setting, samples: Samples) -> None: ...
    def value(self, setting: Setting, batch: Batch, prepared: object) -> Tensor: ...


@dataclass(frozen=True)
class LowRank:
    """One adapter: factors A (r, in) and B (out, r) of each adapted weight."""

    base: str
    down: Mapping[str, Tensor]
    up: Mapping[str, Tensor]
    scale: float

    def tensors(self) -> Iterator[tuple[str, Tensor]]: ...


@dataclass(frozen=True)
class GatedBank:
    """Adapters and their detectors by request; the request that fires most opens the gate."""

    bank: Mapping[str, tuple[LowRank, Bundle]]
    encoder: str
    kind: str = "o3"

    @property
    def artifacts(self) -> Mapping[str, str]: ...
    def merged(self, others: Sequence[Self]) -> Self: ...
    def around(self, model: nn.Module) -> nn.Module: ...


@dataclass(frozen=True)
class O3:
    """The forget set alone, at every request."""

    name: ClassVar[str] = "o3"
    paper: ClassVar[str] = "Gao et al. 2025, On Large Language Model Continual Unlearning"
    sequential: ClassVar[bool] = False
    prepares_with: ClassVar[Access] = Access()

    rank: int = 8
    alpha: int = 16
    dropout: float = 0.05
    learning_rate: float = 3e-4
    epochs: int = 15
    batch_size: int = 128
    orthogonality: float = 0.1
    detector_learning_rate: float = 1e-5
    detector_epochs: int = 2
    mask_rate: float = 0.15
    outliers: float = 0.1
    calibration_share: float = 0.2

    def descent(self) -> Descent:
        return Descent(
            Player(
                forget=RandomLabels(),
                others={"orthogonality": On(Nothing(), Orthogonality(self.orthogonality))},
                parameters=Matching(("lora_down", "lora_up")),
                optimiser=AdamW(self.learning_rate),
            ),
            length=Epochs(self.epochs),
            batch_size=self.batch_size,
        )

    @property
    def needs(self) -> Abilities:
        return self.descent().needs

    @property
    def unlearns_with(self) -> Access:
        return self.descent().access

    def prepare(self, problem: Problem, run: Run) -> Artifact: ...

    def unlearn(self, problem: Problem, artifact: Artifact, run: Run) -> Outcome:
        """Descends on a copy with adapters beside its weights; ends in ``answer``."""
        ...

    def answer(self, request: str, adapter: LowRank, detector: Bundle, encoder: str) -> Outcome:
        return Outcome((GatedBank({request: (adapter, detector)}, encoder),))


_o3_terms: tuple[Term, ...] = (RandomLabels(), Orthogonality())
_nothing: Source = Nothing()
_low_rank: type[Adapter] = LowRank
_gated: Guard = GatedBank({}, "digest of the encoder")
_o3: Method = O3()


# ---- FedEraser: stored client updates, calibrated (federated/hierarchical_quantization) ----------


@dataclass(frozen=True)
class ClientUpdates:
    """A view of the record: initial weights and the decoded update of each client and round."""

    record: Record

    def initial(self) -> Mapping[str, Tensor]: ...
    def rounds(self) -> Sequence[tuple[int, Sequence[str]]]:
        """Each stored round with the clients that took part."""
        ...

    def update(self, round_number: int, client: str) -> Mapping[str, Tensor]: ...
    def without(self, client: str) -> Record: ...


@dataclass(frozen=True)
class FederatedAveraging:
    """The learner that makes the record; the ``subject`` of a row is its client."""

    rounds: int = 40
    local_epochs: int = 2
    batch_size: int = 32
    optimiser: Optimiser = field(default_factory=lambda: SGD(0.1))
    first_rate: float = 1.0
    rate_decay: float = 0.05
    kept: float = 0.1
    interval: int = 1

    def fit(
        self, model: nn.Module, family: Family, data: Mapping[Role, Samples], run: Run
    ) -> Trained: ...


@dataclass(frozen=True)
class FedEraser:
    """Reads the other clients' rows for calibration, and of the forgotten client only its name."""

    name: ClassVar[str] = "fed-eraser"
    paper: ClassVar[str] = "Liu et al. 2021, FedEraser"
    sequential: ClassVar[bool] = True
    needs: ClassVar[Abilities] = (HasLoss,)
    prepares_with: ClassVar[Access] = Access()
    unlearns_with: ClassVar[Access] = Access(
        {Role.FORGET: frozenset({"subject"}), Role.RETAIN: None}, record=True
    )

    ratio: float = 0.5
    local_epochs: int = 2
    optimiser: Optimiser = field(default_factory=lambda: SGD(0.1))

    def prepare(self, problem: Problem, run: Run) -> Artifact: ...

    def unlearn(self, problem: Problem, artifact: Artifact, run: Run) -> Outcome:
        """A Replacement that starts from the record's initial weights, and the record without the
        client."""
        ...


_federated: Learner = FederatedAveraging()
_fed_eraser: Method = FedEraser()


# ---- SAUCE: a guard over a shared autoencoder (vision_language/sauce) ----------------------------


@dataclass(frozen=True)
class ScaledFeatures:
    """Features of one autoencoder, each with its factor, at one tap of the model.

    ``autoencoder`` is held in memory; ``artifacts`` names it by its digest.
    """

    autoencoder: Bundle
    features: Mapping[int, float]
    tap: str
    error_term: bool = True
    kind: str = "sauce"

    @property
    def artifacts(self) -> Mapping[str, str]: ...

    def merged(self, others: Sequence[Self]) -> Self:
        """One encoding, the union of the features."""
        ...

    def around(self, model: nn.Module) -> nn.Module: ...


@dataclass(frozen=True)
class SAUCE:
    """Prepared once on unlabelled pictures; a request reads pictures with and without it."""

    name: ClassVar[str] = "sauce"
    paper: ClassVar[str] = "Li et al. 2025, SAUCE"
    sequential: ClassVar[bool] = False
    needs: ClassVar[Abilities] = ()
    prepares_with: ClassVar[Access] = Access({Role.UNLABELLED: IMAGE})
    unlearns_with: ClassVar[Access] = Access({Role.FORGET: IMAGE, Role.CONTRAST: IMAGE})

    expansion: int = 64
    epochs: int = 2
    batch_size: int = 1024
    sparsity: float = 1e-3
    features: int = 5
    factor: float = -5.0
    delta: float = 1e-8

    def prepare(self, problem: Problem, run: Run) -> Artifact:
        """The autoencoder."""
        ...

    def unlearn(self, problem: Problem, artifact: Artifact, run: Run) -> Outcome:
        return Outcome((self.guard(artifact, {}),))

    def guard(self, artifact: Artifact, features: Mapping[int, float]) -> ScaledFeatures: ...


_scaled: Guard = ScaledFeatures(Bundle(), {}, "second_to_last")
_sauce: Method = SAUCE()


# ---- DMM: attribution first, then matching (classification/dmm) ----------------------------------


@dataclass(frozen=True)
class MatchSimulatedOracle:
    """Squared distance of the logits to those of the simulated oracle.

    ``start`` computes the targets (n, K): the reference's logits less the attribution of the
    forget set, read by the rows' ids.
    """

    attribution: Artifact
    strength: float = 1.0
    weight: float = 1.0
    every: int = 1
    batch_size: int | None = None
    fields: Fields = IMAGE
    needs: ClassVar[Abilities] = (HasOutputs,)

    def start(self, setting: Setting, samples: Samples) -> Tensor: ...
    def value(self, setting: Setting, batch: Batch, prepared: object) -> Tensor: ...


@dataclass(frozen=True)
class DMM:
    """Prepares thousands of models from the recipe; a request reads no label."""

    name: ClassVar[str] = "dmm"
    paper: ClassVar[str] = "Georgiev et al. 2025, Attribute-to-Delete"
    sequential: ClassVar[bool] = False
    prepares_with: ClassVar[Access] = Access.to(Role.TRAIN, recipe=True)

    models: int = 1000
    share: float = 0.5
    epochs: int = 4
    learning_rate: float = 1e-4
    rate_decay: float = 0.95
    batch_size: int = 512
    retain_ratio: int = 20
    forget_repeats: int = 5
    strength: float = 1.0

    def descent(self, attribution: Artifact) -> Descent:
        forget = self.forget_repeats / (self.forget_repeats + self.retain_ratio)
        rows = round(forget * self.batch_size)
        return Descent(
            Player(
                forget=MatchSimulatedOracle(attribution, self.strength, forget, batch_size=rows),
                retain=MatchSimulatedOracle(
                    attribution, self.strength, 1 - forget, batch_size=self.batch_size - rows
                ),
                optimiser=AdamW(self.learning_rate, schedule=Decay(self.rate_decay, self.epochs)),
            ),
            length=Epochs(self.epochs, of=Role.RETAIN),
            batch_size=self.batch_size,
        )

    @property
    def needs(self) -> Abilities:
        return self.descent(Artifact()).needs

    @property
    def unlearns_with(self) -> Access:
        return self.descent(Artifact()).access

    def prepare(self, problem: Problem, run: Run) -> Artifact: ...

    def unlearn(self, problem: Problem, artifact: Artifact, run: Run) -> Outcome:
        """Selects ``retain_ratio`` retain rows for each forget row; then the descent."""
        ...


_match: Term = MatchSimulatedOracle(Bundle())
_dmm: Method = DMM()


# ---- ACU: exact removal from a ridge head (classification/acu) -----------------------------------


class RidgeSolver(Protocol):
    """From sums over the rows to weights: solved anew, or moved by a recursion with guards."""

    def moved(
        self, state: Record, ridge: float, features: Tensor, targets: Tensor, sign: int
    ) -> Record:
        """The state with rows F (m, D), Y (m, K), or without them.

        Raises:
            ExpungeError: the rows that would be left tell no weights.
        """
        ...


@dataclass(frozen=True)
class RidgeRecursion:
    """Keeps the inverse beside the sums; solves them anew where a guard fires."""

    least: float = 1e-8
    drift: float = 1e-10
    every: int = 1000
    worst: float = 1e12

    def moved(
        self, state: Record, ridge: float, features: Tensor, targets: Tensor, sign: int
    ) -> Record: ...


@dataclass(frozen=True)
class RidgeHead:
    """The learner that makes the record: sums, head, solver, and the digests of the rows."""

    ridge: float = 1e-3
    solver: RidgeSolver = field(default_factory=RidgeRecursion)

    def fit(
        self, model: nn.Module, family: Family, data: Mapping[Role, Samples], run: Run
    ) -> Trained: ...


@dataclass(frozen=True)
class ACU:
    """Sequential: the record already lacks the rows of earlier requests, so its head is the new
    model and no displacement from the base that could be added to others.

    Ridge, solver and guards are the learner's: the record names them. The features are what the
    last linear layer reads, so that any family with logits will do.
    """

    name: ClassVar[str] = "acu"
    paper: ClassVar[str] = "Tang et al. 2025, Analytic Continual Unlearning"
    sequential: ClassVar[bool] = True
    needs: ClassVar[Abilities] = (HasLogits,)
    prepares_with: ClassVar[Access] = Access()
    unlearns_with: ClassVar[Access] = Access.to(Role.FORGET, record=True)

    def prepare(self, problem: Problem, run: Run) -> Artifact: ...

    def unlearn(self, problem: Problem, artifact: Artifact, run: Run) -> Outcome:
        """A Replacement, and the record without the rows.

        Raises:
            ExpungeError: a row is not in the record.
        """
        ...

    def answer(self, head: Replacement, state: Record) -> Outcome:
        return Outcome((head,), state)


_ridge: Learner = RidgeHead()
_acu: Method = ACU()


# ---- SSD stands for the methods that prepare on everything and then forget without it ------------


@dataclass(frozen=True)
class SSD:
    """Importance of every weight on all training data, once; then on the forget set."""

    name: ClassVar[str] = "ssd"
    paper: ClassVar[str] = "Foster, Schoepf, Brintrup 2024, Selective Synaptic Dampening"
    sequential: ClassVar[bool] = False
    needs: ClassVar[Abilities] = (HasLoss,)
    prepares_with: ClassVar[Access] = Access.to(Role.TRAIN)
    unlearns_with: ClassVar[Access] = Access.to(Role.FORGET)

    alpha: float = 10.0
    strength: float = 1.0

    def prepare(self, problem: Problem, run: Run) -> Artifact: ...
    def unlearn(self, problem: Problem, artifact: Artifact, run: Run) -> Outcome: ...


_ssd: Method = SSD()


# ---- the remaining interfaces --------------------------------------------------------------------


@dataclass(frozen=True)
class Boundary:
    """An adversary: moves forget pictures to the nearest decision boundary (Boundary Shrink)."""

    size: float = 0.1

    def perturbed(self, setting: Setting, term: str, batch: Batch) -> Batch: ...


@dataclass(frozen=True)
class Saliency:
    """Weights whose forget gradient is largest (SalUn): masks beside names."""

    share: float = 0.5

    def select(
        self, module: nn.Module, problem: Problem, run: Run
    ) -> Mapping[str, Tensor | None]: ...


_boundary: Adversary = Boundary()
_saliency: Parameters = Saliency()
