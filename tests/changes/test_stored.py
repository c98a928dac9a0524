"""Stored changes: one list of kinds, found by entry points, read again by their name."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import ClassVar, Self

import pytest
import torch
from torch import nn

from expunge import registry
from expunge.changes import stored
from expunge.changes.adapter import Factors, LowRank
from expunge.changes.delta import Delta
from expunge.changes.kinds import Change, Guard, Replacement, acts_on
from expunge.changes.redaction import Redacted
from expunge.changes.refusal import Refusal, Rule
from expunge.changes.weights import digest_of
from expunge.errors import ExpungeError, IntegrityError
from expunge.storage import read_facts, write_tensors


def every_kind() -> dict[str, Change]:
    torch.manual_seed(0)
    base, other = nn.Linear(4, 3), nn.Linear(4, 3)
    rule = Rule(torch.eye(4)[:1], 0.1, torch.zeros(3))
    return {
        "delta": Delta.between(other, base),
        "low-rank": LowRank.of(base, {"weight": Factors(torch.ones(1, 4), torch.ones(3, 1))}),
        "redaction": Redacted({"index": ("a",)}),
        "refusal": Refusal(digest_of(base), "logits", (rule,)),
        "replacement": Replacement.of(other, base),
    }


def test_every_shipped_kind_is_read_again_by_its_name(tmp_path: Path) -> None:
    changes = every_kind()
    assert set(changes) <= set(stored.kinds())
    for kind, change in changes.items():
        first, second = tmp_path / kind, tmp_path / f"{kind} again"
        assert stored.kind_of(change) == kind
        stored.save(change, first)
        back = stored.load(kind, first)
        assert type(back) is type(change)
        assert acts_on(back) == acts_on(change)
        stored.save(back, second)
        assert first.read_bytes() == second.read_bytes()


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    changes = every_kind()
    for kind, change in changes.items():
        stored.save(change, tmp_path / kind)
        for other in set(changes) - {kind}:
            with pytest.raises(IntegrityError, match="holds no"):
                stored.load(other, tmp_path / kind)


@dataclass(frozen=True)
class Blur:
    """A guard of another package."""

    radius: int

    kind: ClassVar[str] = "blur"
    artifacts: ClassVar[Mapping[str, str]] = {}

    def merged(self, others: Sequence[Self]) -> Self:
        return max((self, *others), key=lambda each: each.radius)

    def around(self, model: nn.Module) -> nn.Module:
        return nn.Sequential(model)

    def save(self, path: Path) -> None:
        write_tensors(path, {}, {"radius": self.radius})

    @classmethod
    def load(cls, path: Path) -> Self:
        return cls(int(str(read_facts(path)["radius"])))


def test_a_kind_of_another_package_is_stored_once_it_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blur, path = Blur(3), tmp_path / "blur.safetensors"
    assert isinstance(blur, Guard)
    with pytest.raises(ExpungeError, match=r"returned a Blur, which is of no kind .*low-rank"):
        stored.save(blur, path)
    assert not path.exists()
    found = registry._found

    def with_blur(group: registry.Group, where: tuple[str, ...]) -> tuple[EntryPoint, ...]:
        own = EntryPoint("blur", f"{__name__}:Blur", "expunge.changes")
        return (*found(group, where), own) if group == "changes" else found(group, where)

    with monkeypatch.context() as installed:
        installed.setattr(registry, "_found", with_blur)
        installed.setattr(EntryPoint, "load", lambda self: Blur if self.name == "blur" else Delta)
        assert stored.kind_of(blur) == "blur"
        stored.save(blur, path)
        assert stored.load("blur", path) == blur
    with pytest.raises(IntegrityError, match=r"kind 'blur'.*delta.*install the package"):
        stored.load("blur", path)


def test_who_only_calls_itself_by_a_known_kind_is_refused() -> None:
    class Liar(Blur):
        kind: ClassVar[str] = "refusal"

    with pytest.raises(ExpungeError, match="returned a Liar"):
        stored.kind_of(Liar(1))
