"""The signatures of the hardest methods conform to the interfaces and open what their cards say."""

import subprocess
import sys
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import hardest
import pytest

from expunge.methods.protocol import Method
from expunge.methods.sfd import SFD
from expunge.problem import Access
from expunge.recipe import Role

ROOT = Path(__file__).parents[2]
SIGNATURES = Path(hardest.__file__)

HEAD = """# mypy: disable-error-code="empty-body,override"
from hardest import NPO, NegativePreference
from torch import nn

from expunge.changes.delta import Delta
from expunge.changes.kinds import Guard
from expunge.data.samples import Batch
from expunge.descent.player import On, Setting, Term
from expunge.methods.protocol import Artifact, Method, Outcome
from expunge.problem import Access, Problem
from expunge.run import Run

"""

WRONG = {
    "a method that returns its change bare": (
        "class Bare(NPO):\n"
        "    def unlearn(self, problem: Problem, artifact: Artifact, run: Run) -> Delta: ...\n"
        "wrong: Method = Bare()\n"
    ),
    "a method that does not declare what it opens while preparing": (
        "class Silent:\n"
        "    name = paper = 'silent'\n"
        "    needs: tuple[type, ...] = ()\n"
        "    sequential = False\n"
        "    unlearns_with = Access()\n"
        "    def prepare(self, problem: Problem, run: Run) -> Artifact: ...\n"
        "    def unlearn(self, problem: Problem, artifact: Artifact, run: Run) -> Outcome: ...\n"
        "wrong: Method = Silent()\n"
    ),
    "a term whose value is a plain number": (
        "class Plain(NegativePreference):\n"
        "    def value(self, setting: Setting, batch: Batch, prepared: object) -> float: ...\n"
        "wrong: Term = Plain()\n"
    ),
    "a source in the place of a role that gives no batch": (
        "class Empty:\n"
        "    def batch(self, setting: Setting, size: int) -> None: ...\n"
        "wrong = On(Empty(), NegativePreference())\n"
    ),
    "a guard that cannot merge": (
        "class Lone:\n"
        "    kind = 'lone'\n"
        "    artifacts: dict[str, str] = {}\n"
        "    def around(self, model: nn.Module) -> nn.Module: ...\n"
        "wrong: Guard = Lone()\n"
    ),
    "an outcome that holds a model": "wrong = Outcome((nn.Linear(1, 1),))\n",
}


@pytest.fixture(scope="module")
def complaints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """The errors of one mypy --strict run over the signatures and every wrong file, by file."""
    folder = tmp_path_factory.mktemp("wrong")
    paths = [SIGNATURES]
    for number, source in enumerate(WRONG.values()):
        path = folder / f"wrong_{number}.py"
        path.write_text(HEAD + source)
        paths.append(path)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--no-error-summary", *map(str, paths)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr  # 2: mypy itself could not run
    lines = [line for line in done.stdout.splitlines() if ": error:" in line]
    return {path.name: [line for line in lines if f"{path.name}:" in line] for path in paths}


def test_the_signatures_conform(complaints: dict[str, list[str]]) -> None:
    assert complaints[SIGNATURES.name] == []


@pytest.mark.parametrize("number", range(len(WRONG)), ids=list(WRONG))
def test_a_wrong_signature_is_found(complaints: dict[str, list[str]], number: int) -> None:
    found = complaints[f"wrong_{number}.py"]
    assert len(found) == 1, found
    assert any(code in found[0] for code in ("[assignment]", "[arg-type]"))


IMAGE = frozenset({"image"})

OPENS: dict[str, tuple[Method, Access]] = {
    "graddiff": (hardest.GradDiff(), Access.to(Role.FORGET, Role.RETAIN)),
    "npo": (hardest.NPO(), Access.to(Role.FORGET)),
    "npo+rt": (hardest.NPO(retain_weight=1.0), Access.to(Role.FORGET, Role.RETAIN)),
    "doco": (
        hardest.DoCo(),
        Access({Role.ALTERNATIVES: IMAGE | {"prompt", "target_prompt"}, Role.PRIOR: None}),
    ),
    "sfd": (SFD(), Access()),
    "msgm": (hardest.MSGM(), Access({Role.FORGET: IMAGE, Role.RETAIN: IMAGE})),
    "msgm from scratch": (
        hardest.MSGMFromScratch(),
        Access({Role.FORGET: IMAGE, Role.RETAIN: IMAGE}, recipe=True),
    ),
    "laf": (hardest.LAF(), Access({Role.FORGET: IMAGE, Role.RETAIN: IMAGE})),
    "s3t": (hardest.S3T(), Access({Role.FORGET: frozenset()}, record=True)),
    "d2dgn": (
        hardest.D2DGN(),
        Access(
            dict.fromkeys(
                (Role.FORGET, Role.RETAIN, Role.NEGATIVE),
                frozenset({"item", "features", "edges"}),
            ),
            recipe=True,
        ),
    ),
    "o3": (hardest.O3(), Access.to(Role.FORGET)),
    "fed-eraser": (
        hardest.FedEraser(),
        Access({Role.FORGET: frozenset({"subject"}), Role.RETAIN: None}, record=True),
    ),
    "sauce": (hardest.SAUCE(), Access({Role.FORGET: IMAGE, Role.CONTRAST: IMAGE})),
    "dmm": (hardest.DMM(), Access({Role.FORGET: IMAGE, Role.RETAIN: IMAGE})),
    "acu": (hardest.ACU(), Access.to(Role.FORGET, record=True)),
    "ssd": (hardest.SSD(), Access.to(Role.FORGET)),
}

PREPARES = {
    "dmm": Access.to(Role.TRAIN, recipe=True),
    "sauce": Access({Role.UNLABELLED: IMAGE}),
    "ssd": Access.to(Role.TRAIN),
}


@pytest.mark.parametrize("name", OPENS)
def test_a_method_opens_what_its_card_says(name: str) -> None:
    method, opened = OPENS[name]
    assert method.unlearns_with == opened
    assert method.prepares_with == PREPARES.get(name, Access())


def test_a_term_of_weight_zero_opens_nothing() -> None:
    assert Role.RETAIN not in hardest.NPO(retain_weight=0.0).unlearns_with.roles
    assert Role.RETAIN in hardest.NPO(retain_weight=1e-9).unlearns_with.roles


def test_the_moderation_of_msgm_acts_every_fourth_step() -> None:
    (player,) = hardest.MSGM().descent().players
    terms = player.terms()
    assert (terms["forget"].term.every, terms["retain"].term.every) == (4, 1)
    assert terms["forget"].term.weight + terms["retain"].term.weight == 1.0


def test_the_image_network_of_doco_waits_for_its_discriminator() -> None:
    image_network, discriminator = hardest.DoCo().descent().players
    assert not image_network.moves_at(999)
    assert image_network.moves_at(1000)
    assert discriminator.moves_at(0)


@pytest.mark.parametrize("name", OPENS)
def test_a_method_is_a_frozen_dataclass_with_a_default_for_every_field(name: str) -> None:
    method, _ = OPENS[name]
    assert isinstance(method, Method)
    made: Any = type(method)
    assert made() == made()
    assert hash(made()) == hash(made())  # frozen and comparable, so it can be a key of a cache
    with pytest.raises(FrozenInstanceError):
        method.__setattr__("epochs", 0)
