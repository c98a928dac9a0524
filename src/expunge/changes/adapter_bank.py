"""AdapterBank: a guard that lets an adapter act on the texts of its request, and on no others.

Gao, Wang et al. (2025). On Large Language Model Continual Unlearning (O3). Each request
has an adapter and a detector; a text gets the adapter of the request whose detector fires most, at
the weight that it says. Where none fires, the answer keeps its bits.

It deletes nothing: whoever holds the weights runs them without the bank.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from expunge.changes.adapter import Factors, LowRank
from expunge.changes.branches import Branch, branched
from expunge.changes.detector import FIELDS, Detector
from expunge.changes.guarded import Guarded
from expunge.changes.weights import digest_of
from expunge.errors import ExpungeError, IntegrityError
from expunge.storage import read_facts, read_tensors, write_tensors

INNER = ("get_output_embeddings", "get_input_embeddings")
"""Methods of a language model that answer nothing, and are passed on."""


@dataclass(frozen=True, eq=False)
class GatedAdapter:
    """What one request has: its digest, its adapter, and the detector that lets it act."""

    request: str
    adapter: LowRank
    detector: Detector


@dataclass(frozen=True, eq=False)
class Gates:
    """What the detectors say of a batch.

    Args:
        chosen: int64 (B,) the entry that fires most.
        weights: (B,) its weight; 0 where no entry fires.
    """

    chosen: Tensor
    weights: Tensor


@dataclass(frozen=True, eq=False)
class AdapterBank:
    """A bank of gated adapters, one a request.

    Args:
        weights: digest of the weights that all were made for.
        entries: in the order of the requests.
        facts: JSON values that travel with it.
        held: a weight that every text gets in the place of its gate's, for figures with the gate
            open (1) and shut (0); it is not stored.

    Raises:
        IntegrityError: there is no entry, or one was made for other weights.
    """

    weights: str
    entries: tuple[GatedAdapter, ...]
    facts: Mapping[str, object] = field(default_factory=dict)
    held: float | None = None

    kind: ClassVar[str] = "adapter-bank"
    artifacts: ClassVar[Mapping[str, str]] = MappingProxyType({})

    def __post_init__(self) -> None:
        if not self.entries:
            raise IntegrityError("The bank has no adapter; at least one is expected.")
        for entry in self.entries:
            for adapter in (entry.adapter, entry.detector.reader.adapter):
                if adapter is not None and adapter.base != self.weights:
                    raise IntegrityError(
                        f"A bank for the weights {self.weights[:12]} was given an adapter for "
                        f"another base, {adapter.base[:12]}; make it again for these weights."
                    )

    def adapter(self, number: int) -> LowRank:
        """The adapter that acts on a text for which this entry fires most."""
        return self.entries[number].adapter

    def gates(self, model: nn.Module, ids: Tensor, attention: Tensor | None = None) -> Gates:
        """What the detectors say of texts (B, L), read by the bare model."""
        usual, weights = [], []
        with torch.no_grad():
            for entry in self.entries:
                detector = entry.detector
                scores = detector.scores(detector.reader.states(model, ids, attention))
                usual.append(detector.usual.usualness(scores))
                weights.append(detector.usual.weights(usual[-1]))
        found = torch.stack(weights)
        most = found.amax(0)
        tied = torch.where(found == most, torch.stack(usual), -1.0)
        if self.held is not None:
            most = torch.full_like(most, self.held)
        return Gates(tied.argmax(0), most)

    def branches(self, gates: Gates) -> list[Branch]:
        """The adapters that act on a batch, each with its weights."""
        numbers = sorted(set(gates.chosen[gates.weights != 0].tolist()))
        nothing = torch.zeros_like(gates.weights)
        return [
            Branch(self.adapter(n), torch.where(gates.chosen == n, gates.weights, nothing))
            for n in numbers
        ]

    def merged(self, others: Sequence[Self]) -> Self:
        """One bank with the entries of this and the others.

        Raises:
            IntegrityError: the others were made for other weights.
        """
        for other in others:
            if other.weights != self.weights:
                raise IntegrityError(
                    f"One bank was made for the weights {self.weights[:12]}, and another for "
                    f"{other.weights[:12]}; banks of one model are expected. Make those of the "
                    "other weights again."
                )
        entries = (*self.entries, *(entry for other in others for entry in other.entries))
        return replace(self, entries=entries, facts=self.facts if not others else {})

    def around(self, model: nn.Module) -> "Gated":
        """The guarded model; the model itself is not changed, and its weights are shared.

        Raises:
            IntegrityError: its weights are others than those that the bank was made for.
        """
        found = digest_of(model)
        if found != self.weights:
            raise IntegrityError(
                f"The bank was made for the weights {self.weights[:12]}, and these are "
                f"{found[:12]}: its adapters and detectors would not fit them. Withdraw it, and "
                "make it again for these."
            )
        return Gated(model, self)

    def save(self, path: Path) -> None:
        """Write one safetensors file."""
        tensors: dict[str, Tensor] = {}
        entries = []
        for number, entry in enumerate(self.entries):
            tensors |= _stored(f"{number}.adapter", entry.adapter)
            if (reader := entry.detector.reader.adapter) is not None:
                tensors |= _stored(f"{number}.reader", reader)
            tensors |= {f"{number}.{n}": t for n, t in entry.detector.tensors().items()}
            entries.append({"request": entry.request, "detector": entry.detector.facts()})
        header = {
            "kind": self.kind,
            "weights": self.weights,
            "entries": entries,
            "facts": dict(self.facts),
        }
        write_tensors(path, tensors, header)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a stored bank.

        Raises:
            IntegrityError: the file is missing, damaged, or holds no such bank.
        """
        header: Any = read_facts(path)
        if header.get("kind") != cls.kind:
            raise IntegrityError(
                f"{path} holds no {cls.kind}; give a file written by {cls.__name__}.save."
            )
        tensors = read_tensors(path)
        try:
            base = str(header["weights"])
            entries = tuple(
                GatedAdapter(
                    str(facts["request"]),
                    _adapter(f"{number}.adapter", base, tensors),
                    Detector.of(
                        _reader(f"{number}.reader", base, tensors),
                        {name: tensors[f"{number}.{name}"] for name in FIELDS},
                        facts["detector"],
                    ),
                )
                for number, facts in enumerate(header["entries"])
            )
            return cls(base, entries, dict(header["facts"]))
        except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            raise IntegrityError(
                f"{path} is damaged: it is no whole bank of adapters ({type(error).__name__}: "
                f"{error}); restore the file from its source."
            ) from None


@dataclass(frozen=True, eq=False)
class GrowingAdapter(AdapterBank):
    """One adapter for all requests, as it is after the last of them: each entry's began where the
    one before it ended, so that an earlier one cannot be withdrawn alone."""

    kind: ClassVar[str] = "growing-adapter"

    def adapter(self, number: int) -> LowRank:
        """The adapter after the last request, whichever entry fires."""
        return self.entries[-1].adapter


def _stored(prefix: str, adapter: LowRank) -> dict[str, Tensor]:
    found = {}
    for name, factors in adapter.factors.items():
        found[f"{prefix}.A:{name}"] = factors.A
        found[f"{prefix}.B:{name}"] = factors.B
        found[f"{prefix}.scaling:{name}"] = torch.tensor(factors.scaling, dtype=torch.float64)
    return found


def _adapter(prefix: str, base: str, tensors: Mapping[str, Tensor]) -> LowRank:
    start = f"{prefix}.A:"
    names = [key.removeprefix(start) for key in tensors if key.startswith(start)]
    factors = {
        name: Factors(
            tensors[f"{prefix}.A:{name}"],
            tensors[f"{prefix}.B:{name}"],
            float(tensors[f"{prefix}.scaling:{name}"]),
        )
        for name in names
    }
    return LowRank(base, factors)


def _reader(prefix: str, base: str, tensors: Mapping[str, Tensor]) -> LowRank | None:
    there = any(name.startswith(f"{prefix}.") for name in tensors)
    return _adapter(prefix, base, tensors) if there else None


class Gated(Guarded):
    """A language model behind an :class:`AdapterBank`."""

    passes: ClassVar[tuple[str, ...]] = INNER

    def __init__(self, guarded: nn.Module, bank: AdapterBank) -> None:
        super().__init__(guarded)
        self.bank = bank

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        **more: Any,
    ) -> Any:
        """The answer of the guarded model, each row with the adapter of its gate.

        Raises:
            ExpungeError: no tokens are given, or only those after a cache, from which no text is
                known.
        """
        cache = more.get("past_key_values")
        if input_ids is None or (cache is not None and cache.get_seq_length() > 0):
            raise ExpungeError(
                "A model behind a bank of adapters was called without the tokens of whole texts, "
                "by which it knows them; give `input_ids` from their beginning, or call `generate`."
            )
        if attention_mask is not None:
            more["attention_mask"] = attention_mask
        with self._gated(input_ids, attention_mask):
            return self.guarded(input_ids=input_ids, **more)

    def generate(self, inputs: Tensor | None = None, **more: Any) -> Any:
        """What the guarded model generates after prompts (B, L), each with the adapter that its
        prompt calls for, throughout.

        Raises:
            ExpungeError: no tokens are given.
        """
        ids = more.pop("input_ids", None) if inputs is None else inputs
        if ids is None:
            raise ExpungeError(
                "A model behind a bank of adapters was asked to generate without a prompt in "
                "tokens; give `input_ids`."
            )
        guarded: Any = self.guarded
        with self._gated(ids, more.get("attention_mask")):
            return guarded.generate(ids, **more)

    @contextmanager
    def _gated(self, ids: Tensor, attention: Tensor | None) -> Iterator[None]:
        gates = self.bank.gates(self.guarded, ids, attention)
        with branched(self.guarded, self.bank.branches(gates)):
            yield
