"""Safe latent diffusion: the guidance, its four strengths, and the guard that holds it."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.methods.known_drawings import FAMILY, FISH, model, problem
from torch import Tensor

from expunge.changes import stored
from expunge.changes.kinds import Guard
from expunge.changes.safe_guidance import Avoided, LedAway, Push, SafeGuidance
from expunge.changes.weights import digest_of
from expunge.errors import ExpungeError, IntegrityError
from expunge.families.diffusion_sampling import DDIM, Steered
from expunge.methods.protocol import Suppresses, unlearn
from expunge.methods.safe_latent import SafeLatent
from expunge.run import Run

FOUR = {
    "weak": SafeLatent.weak(),
    "medium": SafeLatent.medium(),
    "strong": SafeLatent.strong(),
    "max": SafeLatent.maximum(),
}


def guard(method: SafeLatent, text: str = "fish") -> SafeGuidance:
    [found] = unlearn(method, problem(replace(FISH, text=text)), Run()).changes
    assert isinstance(found, SafeGuidance)
    return found


def drawn(network: torch.nn.Module, text: str = "a fish in noto style") -> Tensor:
    told = FAMILY.conditions([text] * 8)
    return DDIM(20, 3.0).drawn(FAMILY, network, told, Run(), "safe")


def test_the_four_strengths_are_those_of_the_paper() -> None:
    found = {n: (m.warm_up, m.scale, m.threshold, m.momentum, m.decay) for n, m in FOUR.items()}
    assert found == {
        "weak": (15, 200, 0.0, 0.0, 0.0),
        "medium": (10, 1000, 0.01, 0.3, 0.4),
        "strong": (7, 2000, 0.025, 0.5, 0.7),
        "max": (0, 5000, 1.0, 0.5, 0.7),
    }


def test_the_guidance_by_hand() -> None:
    """Told c the model answers 3, told nothing 1, told S 2.5 or 4; two steps, warm-up of one."""

    def asked(told: Tensor) -> Tensor:
        return told.float()

    condition, empty = torch.tensor([[3.0], [3.0]]), torch.tensor([[1.0], [1.0]])
    push = Push(1, scale=0.5, threshold=0.0, momentum=0.3, decay=0.4)
    for concept, strength in ((2.5, 0.0), (4.0, 0.5)):  # 3 - 2.5 is no less than 0; 3 - 4 is
        way = LedAway((Avoided(torch.tensor([concept]), push),))
        first = way.noise(asked, condition, empty, 2.0)
        assert first.flatten().tolist() == [5.0, 5.0]  # still warming up
        away = strength * (concept - 1.0)
        memory = (1 - 0.4) * away
        second = way.noise(asked, condition, empty, 2.0)
        expected = 1 + 2 * (3 - 1 - (away + 0.3 * memory))
        assert second.flatten().tolist() == pytest.approx([expected] * 2)


def test_a_guard_that_is_still_warming_up_changes_nothing() -> None:
    late = guard(SafeLatent(warm_up=20)).around(model())
    torch.testing.assert_close(drawn(late), drawn(model()), rtol=0, atol=1e-4)
    assert isinstance(late, Steered) and not isinstance(model(), Steered)


def test_each_strength_leads_further_than_the_one_before() -> None:
    before = drawn(model())
    went = [
        float((drawn(guard(m).around(model())) - before).square().mean()) for m in FOUR.values()
    ]
    assert went[0] < went[1] < went[2] < went[3]
    assert went[3] > 10 * went[0]


def test_two_drawings_do_not_share_a_memory() -> None:
    guarded = guard(SafeLatent.maximum()).around(model())
    assert torch.equal(drawn(guarded), drawn(guarded))


def test_the_weights_stay_and_the_guard_is_stored(tmp_path: Path) -> None:
    found = guard(SafeLatent.strong())
    assert digest_of(found.around(model())) == digest_of(model())
    assert isinstance(found, Guard) and isinstance(SafeLatent(), Suppresses)
    found.save(tmp_path / "guard")
    again = SafeGuidance.load(tmp_path / "guard")
    assert again.facts == found.facts and again.avoided[0].push == found.avoided[0].push
    assert torch.equal(again.avoided[0].condition, found.avoided[0].condition)
    if SafeGuidance.kind in stored.kinds():
        assert stored.kind_of(found) == "safe-guidance"


def test_guards_merge_and_one_alone_is_one_of_two() -> None:
    fish, tree = guard(SafeLatent.maximum()), guard(SafeLatent(warm_up=20), "tree")
    both = fish.merged([tree])
    assert len(both.avoided) == 2
    torch.testing.assert_close(
        drawn(both.around(model())), drawn(fish.around(model())), rtol=0, atol=1e-3
    )


def test_what_is_damaged_is_refused(tmp_path: Path) -> None:
    found = guard(SafeLatent())
    found.save(tmp_path / "guard")
    raw = (tmp_path / "guard").read_bytes()
    (tmp_path / "guard").write_bytes(raw.replace(b'scale\\":1000', b'scale\\":-100'))
    if (tmp_path / "guard").read_bytes() != raw:
        with pytest.raises(IntegrityError):
            SafeGuidance.load(tmp_path / "guard")
    with pytest.raises(IntegrityError, match="at least one"):
        SafeGuidance(())
    with pytest.raises(ExpungeError, match="a scale above 0"):
        SafeLatent(scale=0)
    with pytest.raises(ExpungeError, match="The word 'whale'"):
        guard(SafeLatent(), "whale")
    with pytest.raises(ExpungeError, match="does not say in words"):
        guard(SafeLatent(), "")


def test_it_reads_nothing() -> None:
    assert SafeLatent().unlearns_with.describe() == "nothing"
