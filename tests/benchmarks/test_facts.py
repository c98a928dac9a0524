"""The benchmark of facts on few people: who they are, its jobs, its targets, its presets."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from expunge import registry
from expunge.benchmarks.facts import picture, tables
from expunge.benchmarks.facts.people import END, FIRST_TUNING, PARAPHRASE, REPORTED, People
from expunge.benchmarks.facts.protocol import Protocol
from expunge.benchmarks.facts.tables import Oracles, Stream, corner_targets, stream_target
from expunge.benchmarks.facts.work import Panel, Training, figures
from expunge.benchmarks.facts.world import Place, Size, World
from expunge.changes.weights import digest_of
from expunge.descent.until import Until
from expunge.errors import ExpungeError
from expunge.families.language import IGNORED
from expunge.methods.fine_tune import FineTune
from expunge.methods.gradient_ascent import GradientAscent
from expunge.methods.gradient_difference import GradientDifference
from expunge.methods.influence import Influence
from expunge.methods.negation import Negation
from expunge.methods.presets import AtPreset, preset_of
from expunge.methods.protocol import Method
from expunge.methods.ssd import SSD
from expunge.models.tiny_llama import TinyLlama
from expunge.recipe import Role
from expunge.run import Run

SMALL = Size(20, 4, 2, layers=2, width=64, inner=128, epochs=70, learning_rate=3e-3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("facts")


@pytest.fixture(scope="module")
def place(folder: Path) -> Place:
    return Place(folder, FIRST_TUNING, SMALL)


@pytest.fixture(scope="module")
def base(place: Place) -> torch.nn.Module:
    return Training(place, 0, 0).model()


@pytest.fixture(scope="module")
def oracle(place: Place) -> torch.nn.Module:
    return Training(place, SMALL.corner, 0).model()


def test_people_follow_from_their_draw_and_differ_between_draws() -> None:
    names = [{person.name for person in People(draw).everybody} for draw in (*REPORTED, 100, 101)]
    assert all(len(each) == 100 for each in names)
    assert names[0] == {person.name for person in People(0).everybody}
    assert all(not a & b for i, a in enumerate(names) for b in names[:i])
    sizes = {len(People(draw).vocabulary) for draw in (*REPORTED, 100, 101)}
    assert len(sizes) == 1  # one architecture for all draws


def test_three_facts_a_person_in_phrasings_of_which_one_is_kept_from_every_second() -> None:
    people = People(0)
    table = people.table
    assert len(set(table["fact"])) == 300
    assert len(table) == 750
    third = [row for row in table["id"] if row.endswith(f"-{PARAPHRASE}")]
    assert {int(row.partition("-")[0]) % 2 for row in third} == {0}
    assert not set(table["id"]) & set(people.paraphrases["id"])
    assert not set(table["prompt"]) & set(people.paraphrases["prompt"])
    assert {len(answer.split()) for answer in table["answer"]} == {1, 2, 3}


def test_samples_are_what_the_words_say_and_the_tokenizer_file_agrees(tmp_path: Path) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    people = People(1, 12)
    samples = people.samples(people.table)
    ids, labels = samples.columns["input_ids"], samples.columns["labels"]
    for row in (0, 17, 50):
        prompt, answer = people.table["prompt"][row], people.table["answer"][row]
        told = labels[row][labels[row] != IGNORED].tolist()
        assert people.text(told) == f"{answer} <end>"
        whole = ids[row][: len(prompt.split()) + len(told)].tolist()
        assert people.text(whole) == f"{prompt} {answer} <end>"
    (tmp_path / "tokenizer.json").write_bytes(people.tokenizer_json())
    opened = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    text = people.table["prompt"][3]
    assert opened.encode(text).ids == people.tokens(text).tolist()
    assert opened.encode("unheard").ids == people.tokens("unheard").tolist()
    assert all(refusal[-1] == END for refusal in people.refusals)


def test_a_stream_begins_with_the_people_of_the_corner() -> None:
    world = World(0, Size())
    table = world.people.table
    corner = set(world.corner().target.rows(table).tolist())
    stream = [set(r.target.rows(table).tolist()) for r in world.stream(20)]
    assert set().union(*stream[:5]) == corner
    assert {len(rows) for rows in stream} == {15}  # 6 facts: three phrasings of one, two of other
    assert sum(map(len, stream)) == len(set().union(*stream))


def test_a_llama_follows_from_its_seed() -> None:
    build = TinyLlama(250)
    assert digest_of(build(0)) == digest_of(build(0)) != digest_of(build(1))
    assert 650_000 < sum(p.numel() for p in build(0).parameters()) < 750_000
    with pytest.raises(ExpungeError, match="multiple of 8"):
        TinyLlama(250, width=100)


def test_base_knows_all_and_the_oracle_nothing_of_those_it_never_saw(
    place: Place, base: torch.nn.Module, oracle: torch.nn.Module
) -> None:
    before, after = (figures(place.world, m, SMALL.corner, Run()) for m in (base, oracle))
    assert before["forget"] == before["retain"] == after["retain"] == 1
    assert after["forget"] <= 0.1
    assert before["relearned"] == 0 < after["relearned"]
    assert min(before["log probability"]) > max(after["log probability"]) - 0.5
    assert before["from others"] == 1 > after["from others"]


def test_the_preset_reaches_the_corner_or_says_why_not(place: Place, base: torch.nn.Module) -> None:
    world, run = place.world, Run()
    deployment = world.deployment(base, 0)
    problem = deployment.problem(world.corner(), GradientDifference())
    method = preset_of(GradientDifference(), problem)
    deployment.forget(world.corner(), method, run)
    panel = Panel(world, [world.corner()]).scored(deployment.model, Run())
    assert panel["requests"][0] <= 0.05
    assert panel["retain"] >= 0.95
    assert isinstance(method, GradientDifference)
    never = replace(method, learning_rate=1e-9)
    with pytest.raises(ExpungeError, match=r"answered, or fewer than 0\.97 of the retained"):
        world.deployment(base, 0).forget(world.corner(), never, Run())


def test_a_retain_free_preset_opens_no_retain_row(place: Place, base: torch.nn.Module) -> None:
    world, run = place.world, Run()
    problem = world.deployment(base, 0).problem(world.corner(), GradientAscent())
    method = preset_of(GradientAscent(), problem)
    assert set(method.unlearns_with.roles) == {Role.FORGET}
    deployment = world.deployment(base, 0)
    deployment.forget(world.corner(), method, run)
    assert set(run.meter.touched) == {Role.FORGET.value}
    assert Panel(world, [world.corner()]).scored(deployment.model, Run())["requests"][0] <= 0.05


def test_an_end_that_is_looked_for_gives_the_bits_of_as_many_steps(
    place: Place, base: torch.nn.Module
) -> None:
    world = place.world
    problem = world.deployment(base, 0).problem(world.corner(), GradientDifference())
    method = GradientDifference(
        30, 1e-3, 0.0, batch_size=64, retain_batch_size=32, until=Until(0.5, None, every=1)
    )
    ended = method.descent().minimise(problem, Run())
    assert 1 <= ended.steps < 30
    same = replace(method, epochs=ended.steps, until=None)
    assert digest_of(same.descent().minimise(problem, Run()).model) == digest_of(ended.model)


@pytest.mark.slow
def test_the_protocol_resumes_and_has_a_verdict_for_every_target(folder: Path) -> None:
    def conduct() -> tuple[dict[str, Any], list[bool]]:
        told: list[bool] = []
        protocol = Protocol(
            folder,
            ("gradient-difference", "gradient-ascent"),
            streams=(2,),
            processes=1,
            size=SMALL,
        )
        return protocol.conduct(lambda _, stored: told.append(stored)), told

    result, _ = conduct()
    again, told = conduct()
    assert again == result
    assert all(told)
    lines = tables.verdicts(result)
    for target in "abde":
        assert any(line.startswith(f"({target}) gradient-difference, preset") for line in lines)
    assert any(line.startswith("(c) gradient-ascent") for line in lines)
    assert not any(line.startswith("(c) gradient-difference") for line in lines)
    titles = [title for title, _, _ in tables.tables(result)]
    assert titles == [
        "one request for 4 people, published",
        "one request for 4 people, preset",
        "2 requests for 2 people",
    ]


def cell(**given: Any) -> dict[str, Any]:
    own = {"draw": 0, "forget": 0.0, "retain": 1.0, "touched": 5, "relearned": 12}
    return {**own, "retain-free": False, "log probability": [-4.0, -3.0, -5.0] * 10, **given}


def test_targets_are_read_against_the_oracles() -> None:
    oracles = {0: Oracles([cell(touched=100, relearned=10), cell(touched=100, relearned=14)])}

    def met(**given: Any) -> set[str]:
        found = corner_targets([cell(**given)], oracles)
        return {name for name, (so, _) in found.items() if so}

    assert met() == {"a", "b", "e"}
    assert met(touched=11) == {"a", "e"}
    assert met(forget=0.06) == met(retain=0.94) == {"e"}
    assert met(relearned=9) == met(relearned=None) == {"a", "b"}
    below = [value - 4 for value in cell()["log probability"]]
    assert met(**{"log probability": below}) == {"a", "b"}
    assert met(**{"retain-free": True}) == {"a", "b", "c", "e"}


def test_a_stream_is_read_at_its_end_and_at_every_step() -> None:
    rows = [[0.0, 0.9, 1.0], [0.2, 0.0, 0.8], [0.1, 0.0, 0.0]]
    steps = [{"requests": row, "retain": 1 - i / 10} for i, row in enumerate(rows)]
    run = {"before": {"requests": [1.0, 1.0, 1.0]}, "steps": {"sum": steps}, "touched": 30}
    found = Stream.of(run, "sum", {"retraining rows": {"3": 300}})
    assert found.final == pytest.approx(0.1 / 3)
    assert found.back == pytest.approx(0.05)  # of the first two: the last was served last
    assert found.back_most == pytest.approx(0.1)
    assert found.retain == 0.8
    assert found.not_yet == pytest.approx((0.9 + 1.0 + 0.8) / 3)
    assert found.share == 0.1
    assert not stream_target([found])[0]
    assert stream_target([replace(found, retain=0.95, not_yet=0.95)])[0]


def test_what_cannot_be_compared_is_said(tmp_path: Path) -> None:
    with pytest.raises(ExpungeError, match="1 to 3 are expected"):
        Protocol(tmp_path, draws=4)
    with pytest.raises(ExpungeError, match="at least 2"):
        Protocol(tmp_path, oracles=1)
    with pytest.raises(ExpungeError, match="people who stay"):
        Protocol(tmp_path, streams=(60,))


@pytest.mark.parametrize(
    "method", [Negation(), FineTune(), SSD(), Influence()], ids=lambda method: method.name
)
def test_a_preset_that_would_not_see_answers_is_refused(place: Place, method: Method) -> None:
    world = place.world
    untrained = world.recipe(0).builder(0)
    problem = world.deployment(untrained, 0).problem(world.corner(), method)
    with pytest.raises(ExpungeError, match="no preset for language models"):
        preset_of(method, problem)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "kl-minimisation",
        "npo-rt",
        "npo-sam",
        "pdu",
        "rmu",
        "selective-amnesia",
        "simnpo",
        "wga",
    ],
)
def test_the_rule_serves_methods_of_every_kind(
    name: str, place: Place, base: torch.nn.Module
) -> None:
    world, method = place.world, registry.load("methods", name)()
    deployment = world.deployment(base, 0)
    try:
        deployment.forget(world.corner(), AtPreset.of(method), Run())
    except ExpungeError as error:
        assert "were still answered" in str(error)  # refused, with the reason
        return
    panel = Panel(world, [world.corner()]).scored(deployment.model, Run())
    assert panel["requests"][0] <= 0.05
    assert panel["retain"] >= 0.95


def test_the_picture_shows_every_method_beside_base_and_oracles() -> None:
    given: dict[str, Any] = {"method": "a", "mode": "preset", "relearned": None}
    reference = {"without": 0, "draw": 0}
    result = {
        "references": [cell(**reference), *(cell(without=10, draw=0) for _ in range(2))],
        "answers": [cell(**given), cell(**given, forget=0.5), {"method": "b", "mode": "preset"}],
    }
    assert picture.png(result).startswith(b"\x89PNG")
    assert picture.png(result) == picture.png(result)
