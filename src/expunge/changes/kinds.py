"""The kinds of change that a method can return beside :class:`~expunge.changes.delta.Delta`.

``Replacement`` is new weights, perhaps of another family. ``Adapter``, ``Guard`` and ``Redaction``
are interfaces: low-rank weights, something that acts at inference, ids removed from the input.
Those that are shipped are ``LowRank``, ``Refusal`` and ``Redacted``, each in a file of its own.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal, Protocol, Self, runtime_checkable

from torch import Tensor, nn

from expunge.changes.delta import Delta
from expunge.changes.weights import digest_of, is_finite, load_stored, stored_tensors
from expunge.errors import IntegrityError
from expunge.storage import digest, read_facts, read_tensors, write_tensors


@dataclass(frozen=True, eq=False)
class Replacement:
    """New weights: the whole model anew. It starts a new epoch of the history.

    ``before`` is the digest of the model it takes the place of. ``family`` names the family of the
    new model where it differs, and ``builder`` (``module:function``) builds it then.
    """

    before: str
    tensors: Mapping[str, Tensor]
    family: str | None = None
    builder: str | None = None
    facts: Mapping[str, object] = field(default_factory=dict)

    kind: ClassVar[str] = "replacement"

    def __post_init__(self) -> None:
        for name, tensor in self.tensors.items():
            if not is_finite(tensor):
                raise IntegrityError(
                    f"The new weights have NaN or infinite values in {name!r}; finite numbers "
                    "are expected. Lower the learning rate of the method and run it again."
                )

    @classmethod
    def of(
        cls,
        after: nn.Module,
        before: nn.Module,
        *,
        family: str | None = None,
        builder: str | None = None,
        **facts: object,
    ) -> Self:
        """All parameters and stored buffers of ``after``, in the place of ``before``.

        Floating-point tensors are kept as float32, all others in their own type.
        """
        stored = {n: _kept(t.detach()) for n, t in stored_tensors(after).items()}
        return cls(digest_of(before), stored, family, builder, facts)

    def digest(self) -> str:
        """Digest of the new model."""
        return digest(self.tensors)

    def applied_to(self, model: nn.Module) -> nn.Module:
        """The new model, on the architecture of ``model`` or of ``builder``'s result.

        Raises:
            IntegrityError: names, shapes or types differ from the architecture.
        """
        return load_stored(model, self.tensors, "The Replacement")

    def save(self, path: Path) -> None:
        """Write one safetensors file."""
        header = {
            "kind": self.kind,
            "before": self.before,
            "family": self.family,
            "builder": self.builder,
            "facts": dict(self.facts),
        }
        write_tensors(path, self.tensors, header)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a stored Replacement.

        Raises:
            IntegrityError: the file is missing, damaged, or no Replacement.
        """
        header = read_facts(path)
        if header.get("kind") != cls.kind:
            raise IntegrityError(
                f"{path} holds no Replacement; give a file written by Replacement.save."
            )
        before, facts = header.get("before"), header.get("facts")
        if not isinstance(before, str) or not isinstance(facts, dict):
            raise IntegrityError(
                f"{path} does not say which model its weights take the place of; give a file "
                "written by Replacement.save."
            )
        family, builder = header.get("family"), header.get("builder")
        return cls(
            before,
            read_tensors(path),
            None if family is None else str(family),
            None if builder is None else str(builder),
            facts,
        )


def _kept(tensor: Tensor) -> Tensor:
    return (tensor.float() if tensor.is_floating_point() else tensor).cpu().clone()


@runtime_checkable
class Adapter(Protocol):
    """A low-rank change that stays beside the weights."""

    @property
    def base(self) -> str:
        """Digest of its base."""
        ...

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """The dense change B A of each weight, tensor by tensor, under canonical names."""
        ...


@runtime_checkable
class Guard(Protocol):
    """Something that acts at inference and leaves the weights as they are."""

    @property
    def kind(self) -> str:
        """Guards of one kind merge into one."""
        ...

    @property
    def artifacts(self) -> Mapping[str, str]:
        """Digests of the shared artifacts it needs (a sparse autoencoder, a detector)."""
        ...

    def merged(self, others: Sequence[Self]) -> Self:
        """One guard that does what this and the others do."""
        ...

    def around(self, model: nn.Module) -> nn.Module:
        """The guarded model. The model itself is not changed."""
        ...


@runtime_checkable
class Redaction(Protocol):
    """Ids that are removed from what the model is served: graph parts, index or memory entries."""

    @property
    def removed(self) -> Mapping[str, Sequence[str]]:
        """Removed ids by kind."""
        ...


Change = Delta | Replacement | Adapter | Guard | Redaction
"""What one method returns for one request, alone or several together."""

Acts = Literal["weights", "base", "answers", "input"]
"""What of a served model a change acts on: its weights, folded or added; its base, which it takes
the place of; its answers, from outside; or what it is served."""


def acts_on(change: Change) -> Acts:
    """What of a served model a change acts on."""
    if isinstance(change, Replacement):
        return "base"
    if isinstance(change, Delta | Adapter):
        return "weights"
    return "answers" if isinstance(change, Guard) else "input"
