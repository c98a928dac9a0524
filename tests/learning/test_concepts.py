"""Concept banks, bottlenecks and attributions, on digits whose concepts follow from pixels."""

import functools

import pytest
import torch
from torch import Tensor, nn

from expunge.benchmarks.concepts.geometry import geometric_concepts
from expunge.benchmarks.concepts.worlds import concept_world
from expunge.data.samples import Samples
from expunge.errors import ExpungeError
from expunge.learning.concepts.attribution import integrated_gradients
from expunge.learning.concepts.bank import ConceptBank, Examples, embedded, examples_of
from expunge.learning.concepts.bottleneck import Bottleneck, ElasticNet
from expunge.learning.concepts.inference import Embedded, Inferred
from expunge.learning.sharded.ensemble import ShardEnsemble
from expunge.models.mlp import Mlp
from expunge.problem import Access, GuardedData
from expunge.recipe import Role
from expunge.run import Run
from expunge.signals.ask import predict
from expunge.storage import Bundle

SEEDS = (0, 1, 2)
WORLD = concept_world("digits")
VALIDATION = WORLD.world.validation
FAMILY = WORLD.world.family


@functools.cache
def model(seed: int) -> nn.Module:
    """The check's network: an embedding of 64 numbers."""
    recipe = WORLD.world.recipe
    untrained = Mlp(torch.Generator().manual_seed(seed), (64, 64, 10))
    return recipe.learner.fit(untrained, FAMILY, {Role.TRAIN: WORLD.world.train}, Run(seed)).model


@functools.cache
def bank(seed: int) -> ConceptBank:
    return made(Examples(least=0.0), WORLD.examples, seed)


def made(how: Examples, examples: dict[Role, Samples], seed: int = 0) -> ConceptBank:
    sides = examples[Role.POSITIVE], examples[Role.NEGATIVE]
    return how.bank(FAMILY, model(seed), *sides, Run(seed))


@functools.cache
def rows(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Embeddings, labels and the model's answers of all training rows."""
    train = WORLD.world.train
    batch = train.batch(torch.arange(len(train)))
    with torch.no_grad():
        answers = FAMILY.logits(model(seed), batch).argmax(1)  # type: ignore[attr-defined]
    return embedded(FAMILY, model(seed), train, Run()), batch["label"], answers


def as_examples(concepts: dict[str, Tensor]) -> dict[Role, Samples]:
    positive, negative = examples_of(VALIDATION, concepts)
    return {Role.POSITIVE: positive, Role.NEGATIVE: negative}


# ---- concepts of pixels ----


def test_a_ring_has_a_hole_and_a_stroke_has_a_side() -> None:
    ring = torch.zeros(8, 8)
    ring[2:6, 2:6] = 1.0
    ring[3:5, 3:5] = 0.0
    stroke = torch.zeros(8, 8)
    stroke[1:7, 1] = 1.0
    foot = torch.zeros(8, 8)
    foot[6, 2:7] = 1.0
    found = geometric_concepts(torch.stack([ring, stroke, foot]).unsqueeze(1))
    assert found["a hole"].tolist() == [True, False, False]
    assert found["heavier on the left"].tolist() == [False, True, False]
    assert found["heavier at the top"].tolist() == [False, False, False]
    assert found["tall"].tolist() == [False, True, False]


# ---- banks ----


@pytest.mark.parametrize("seed", SEEDS)
def test_geometric_concepts_are_read_from_an_embedding_and_shuffled_ones_are_not(
    seed: int,
) -> None:
    geometric = dict(zip(bank(seed).names, bank(seed).accuracies.tolist(), strict=True))
    strokes = [name for name in geometric if name.startswith(("heavier", "ink", "tall", "much"))]
    assert len(strokes) == 9
    assert sum(geometric[name] for name in strokes) / 9 > 0.8
    draws = torch.Generator().manual_seed(seed)
    shuffled = {
        f"shuffled {i}": held[torch.randperm(len(held), generator=draws)]
        for i, held in enumerate(WORLD.concepts.values())
    }
    chance = made(Examples(least=0.0), as_examples(shuffled), seed).accuracies
    assert abs(float(chance.mean()) - 0.5) < 0.05
    assert float(chance.mean()) < min(geometric[name] for name in strokes) - 0.1


def test_a_score_is_the_distance_from_a_concepts_plane() -> None:
    features, _, _ = rows(0)
    found, scores = bank(0), bank(0).scores(rows(0)[0])
    assert torch.allclose(found.directions.norm(dim=1), torch.ones(len(found.names)).double())
    moved = features + 2.5 * found.directions[3]
    assert torch.allclose(found.scores(moved)[:, 3], scores[:, 3] + 2.5)
    assert 1 <= found.condition < 1e6


def test_right_angles_have_condition_one() -> None:
    at_right_angles = ConceptBank(
        ("a", "b"), torch.eye(2, 5).double(), torch.zeros(2), torch.ones(2)
    )
    assert at_right_angles.condition == pytest.approx(1.0)


def test_a_bank_is_the_same_after_it_was_stored(tmp_path: object) -> None:
    from pathlib import Path

    path = Path(str(tmp_path)) / "bank.safetensors"
    bank(0).bundle().save(path)
    back = ConceptBank.of(Bundle.load_checked(path))
    assert back.names == bank(0).names
    for name in ("directions", "intercepts", "accuracies"):
        assert torch.equal(getattr(back, name), getattr(bank(0), name))
    # A product's last digits may depend on where its factors lie in memory.
    torch.testing.assert_close(back.scores(rows(0)[0]), bank(0).scores(rows(0)[0]))
    with pytest.raises(ExpungeError, match="holds no concept bank"):
        ConceptBank.of(Bundle())


def test_half_of_the_examples_are_asked_about_and_not_learned_from() -> None:
    """Random labels of few rows in many dimensions are learned by heart: on the rows learned from
    a direction would be right."""
    draws = torch.Generator().manual_seed(0)
    noise = {"noise": torch.rand(len(VALIDATION), generator=draws) > 0.5}
    few = made(Examples(examples=20, costs=(10.0,), least=0.0), as_examples(noise))
    assert abs(float(few.accuracies[0]) - 0.5) < 0.3
    assert float(few.accuracies[0]) < 0.9


def test_a_bank_without_positives_is_refused() -> None:
    none, all_of_them = as_examples(
        {"tall": torch.zeros(len(VALIDATION), dtype=torch.bool)}
    ).values()
    with pytest.raises(ExpungeError, match="360 negative examples and no positive one"):
        made(Examples(), {Role.POSITIVE: none, Role.NEGATIVE: all_of_them})


@pytest.mark.parametrize(("held", "side"), [(0, "positive"), (358, "negative")])
def test_a_concept_with_examples_of_one_side_is_refused_by_name(held: int, side: str) -> None:
    few = torch.arange(len(VALIDATION)) < held
    one_sided = as_examples({"tall": WORLD.concepts["tall"], "green": few})
    with pytest.raises(ExpungeError, match=f"'green' has {360 - held if held else 0} {side}"):
        made(Examples(), one_sided)


def test_where_no_concept_can_be_read_the_best_is_named() -> None:
    with pytest.raises(ExpungeError, match=r"None of the 1 concepts .* 'tall'"):
        made(Examples(least=1.0), as_examples({"tall": WORLD.concepts["tall"]}))


def test_concepts_that_cannot_be_read_are_left_out() -> None:
    draws = torch.Generator().manual_seed(0)
    noise = torch.rand(len(VALIDATION), generator=draws) > 0.5
    found = made(Examples(least=0.7), as_examples({"tall": WORLD.concepts["tall"], "noise": noise}))
    assert found.names == ("tall",)


def test_what_is_given_for_a_concept_is_checked() -> None:
    with pytest.raises(ExpungeError, match="No concept was given"):
        examples_of(VALIDATION, {})
    with pytest.raises(ExpungeError, match=r"'tall' has torch.bool of shape \(3,\) for 360 rows"):
        examples_of(VALIDATION, {"tall": torch.ones(3, dtype=torch.bool)})
    with pytest.raises(ExpungeError, match="1 examples"):
        Examples(examples=1)
    with pytest.raises(ExpungeError, match=r"directions of 64 numbers"):
        bank(0).scores(torch.zeros(2, 5))


def test_examples_can_be_read_through_a_guard_that_opens_their_role() -> None:
    guarded = GuardedData(WORLD.examples, Access.to(Role.POSITIVE, Role.NEGATIVE))
    opened = {role: guarded[role] for role in (Role.POSITIVE, Role.NEGATIVE)}
    again = made(Examples(least=0.0), opened)
    assert torch.equal(again.directions, bank(0).directions)


def test_the_features_are_what_the_head_answers_to() -> None:
    features = embedded(FAMILY, model(0), VALIDATION, Run()).float()
    head = list(model(0).modules())[-1]
    batch = VALIDATION.batch(torch.arange(len(VALIDATION)))
    with torch.no_grad():
        assert torch.allclose(head(features), FAMILY.logits(model(0), batch), atol=1e-5)  # type: ignore[attr-defined]


def test_an_ensemble_has_no_embedding_to_read_concepts_from() -> None:
    """Two models side by side: the layer that is called last is a half of the answer."""
    both = ShardEnsemble([model(0), model(1)], [])
    with pytest.raises(ExpungeError, match="not those of the last linear layer"):
        embedded(FAMILY, both, VALIDATION, Run())


# ---- bottleneck and attributions ----


@functools.cache
def inferred(seed: int, label: int = 3) -> Inferred:
    features, labels, answers = rows(seed)
    own = labels == label
    return Inferred.of(
        bank(seed),
        Embedded(features[own], labels[own], answers[own]),
        Embedded(features[~own], labels[~own], answers[~own]),
        ElasticNet(),
        50,
        Run(seed),
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_the_bottleneck_of_fourteen_concepts_is_near_the_model(seed: int) -> None:
    found, test = inferred(seed), WORLD.world.test
    labels = test.batch(torch.arange(len(test)), {"label"})["label"]
    scores = found.bank.scores(embedded(FAMILY, model(seed), test, Run()))
    asked = predict(FAMILY, model(seed), test, Run())
    right = float((found.bottleneck.answers(scores) == labels).double().mean())
    assert len(found.bank.names) == 14
    assert right > float(asked.share_right()[0]) - 0.1
    assert found.agreement > 0.8


def test_attributions_sum_to_what_the_class_has_ahead_of_the_mean_row() -> None:
    found = inferred(0)
    features, labels, _ = rows(0)
    own = labels == 3
    standard = found.bottleneck.standardised(found.bank.scores(features))
    place = int(found.bottleneck.places(torch.tensor([3])))
    logits = found.bottleneck.logits(standard)[own, place]
    of_the_mean = found.bottleneck.logits(torch.zeros(1, standard.shape[1]).double())[0, place]
    assert torch.allclose(found.attributions.sum(1), logits - of_the_mean, atol=1e-4)
    assert torch.allclose(standard.mean(0), torch.zeros(14).double(), atol=1e-9)


def test_of_a_linear_scorer_captum_gives_weight_times_distance() -> None:
    found = inferred(0)
    standard = found.bottleneck.standardised(found.bank.scores(rows(0)[0]))[:50]
    baseline = torch.full((14,), 0.3).double()
    classes = torch.arange(50) % 10
    added = integrated_gradients(found.bottleneck.logits, standard, baseline, classes, 50)
    assert torch.allclose(added, found.bottleneck.weights[classes] * (standard - baseline))


def test_of_a_curved_scorer_the_attributions_still_sum_to_the_difference() -> None:
    torch.manual_seed(0)
    curved = nn.Sequential(nn.Linear(14, 20), nn.Tanh(), nn.Linear(20, 10)).double()
    found = inferred(0)
    standard = found.bottleneck.standardised(found.bank.scores(rows(0)[0]))[:600]
    classes = torch.arange(600) % 10
    baseline = standard.mean(0)

    def error(steps: int) -> float:
        added = integrated_gradients(curved, standard, baseline, classes, steps).sum(1)
        with torch.no_grad():
            at, start = curved(standard), curved(baseline.unsqueeze(0))
        wanted = at.gather(1, classes.unsqueeze(1)).squeeze(1) - start[0, classes]
        return float((added - wanted).abs().max())

    assert error(50) < 1e-4
    assert error(1) > 10 * error(50)


def test_importance_is_the_mean_of_the_rows_and_exclusivity_is_what_is_ahead() -> None:
    found = inferred(0)
    assert torch.allclose(found.importance[3], found.attributions.mean(0))
    ahead = found.exclusivity(3)
    others = [place for place in range(10) if place != 3]
    assert torch.allclose(ahead, found.importance[3] - found.importance[others].amax(0))
    order = found.important(3, 14)
    assert torch.equal(found.importance[3][order], found.importance[3].sort(descending=True).values)


def test_the_nearest_class_is_the_one_whose_importances_point_the_same_way() -> None:
    found = inferred(0)
    nearest = found.nearest(3, [0, 1, 2, 4, 5, 6, 7, 8, 9])
    unit = found.importance / found.importance.norm(dim=1, keepdim=True)
    likeness = unit @ unit[3]
    likeness[3] = -2.0
    assert nearest == int(likeness.argmax())
    assert found.nearest(3, [0]) == 0


def test_a_class_without_rows_is_unknown() -> None:
    with pytest.raises(ExpungeError, match="class 12 has no row"):
        inferred(0).nearest(3, [12])


def test_a_bottleneck_of_two_classes_answers_like_one_of_many() -> None:
    features, labels, _ = rows(0)
    two = (labels == 1) | (labels == 8)
    scores = bank(0).scores(features[two])
    found = Bottleneck.fit(scores, labels[two], ElasticNet(), Run())
    assert found.weights.shape == (2, 14)
    assert found.classes.tolist() == [1, 8]
    assert float((found.answers(scores) == labels[two]).double().mean()) > 0.9


def test_a_large_penalty_leaves_few_concepts() -> None:
    features, labels, _ = rows(0)
    scores = bank(0).scores(features)
    dense, sparse = (
        Bottleneck.fit(scores, labels, ElasticNet(weight), Run()) for weight in (1e-5, 3e-2)
    )
    assert int((sparse.weights.abs() > 1e-8).sum()) < 0.7 * int((dense.weights.abs() > 1e-8).sum())


def test_a_bottleneck_of_one_class_is_refused() -> None:
    features, labels, _ = rows(0)
    with pytest.raises(ExpungeError, match="of the class 3"):
        Bottleneck.fit(
            bank(0).scores(features[labels == 3]), labels[labels == 3], ElasticNet(), Run()
        )
    with pytest.raises(ExpungeError, match="penalty above 0"):
        ElasticNet(0.0)
