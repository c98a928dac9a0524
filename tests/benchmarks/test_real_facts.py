"""The benchmark of real facts: what is asked, who is forgotten, who stays, and who nobody is."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from expunge.benchmarks.real_facts import protocol, questions, tables, work, world
from expunge.benchmarks.real_facts.questions import CHOICES, LANGUAGES, WORDINGS, Fact, Name
from expunge.benchmarks.real_facts.world import Groups, Size, grouped, half
from expunge.data.catalogue import at_hand
from expunge.errors import ExpungeError
from expunge.run import Run

PARTS: tuple[world.Part, ...] = ("development", "reported")
SMALL = Size(forget=4, rehearsed=4, held_out=4)


def by_letters(answer: str) -> int:
    """Stands for the first token of a tokenizer: the first three letters."""
    return int.from_bytes(answer[:3].lower().encode(), "big")


@pytest.fixture(scope="module")
def fetched() -> None:
    try:
        for name in protocol.SETS[1:]:
            at_hand(name)
    except ExpungeError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def capitals(fetched: None) -> list[Fact]:
    return questions.facts_of("capitals", by_letters, 168)


@pytest.fixture(scope="module")
def people(fetched: None) -> list[Fact]:
    return questions.facts_of("people", by_letters, 200)


def ring(count: int = 40) -> list[Fact]:
    """Countries in a ring, each beside the next."""
    return [
        Fact(
            f"C{i}", "capital", f"C{i}", tuple(f"{j}{i}" for j in range(CHOICES)),
            (f"C{(i - 1) % count}", f"C{(i + 1) % count}"),
        )
        for i in range(count)
    ]  # fmt: skip


def subjects(facts: tuple[Fact, ...]) -> set[str]:
    return {fact.subject for fact in facts}


def parts_of(groups: Groups) -> list[set[str]]:
    return [
        subjects(getattr(groups, name))
        for name in ("forget", "near", "near_held_out", "far", "far_held_out")
    ]


@pytest.mark.parametrize("part", PARTS)
def test_nobody_is_in_two_groups_and_near_is_near(part: world.Part) -> None:
    known = ring()
    groups = grouped(known, part, SMALL)
    each = parts_of(groups)
    assert sum(map(len, each)) == len(set().union(*each))
    forget = each[0]
    assert len(forget) == SMALL.forget and {half(name) for name in forget} == {part}
    beside = {near for fact in known if fact.subject in forget for near in fact.near}
    assert each[1] | each[2] <= beside
    assert not (each[3] | each[4]) & beside
    assert 0 < len(each[1]) <= len(each[2])  # no more is rehearsed than is only asked about


def test_halves_share_no_forgotten_subject_and_the_order_of_what_is_known_is_nothing() -> None:
    known = ring()
    one, other = (grouped(known, part, SMALL) for part in PARTS)
    assert not subjects(one.forget) & subjects(other.forget)
    assert grouped(known[::-1], "reported", SMALL) == other
    with pytest.raises(ExpungeError, match="Ask for fewer"):
        grouped(known[:6], "reported", SMALL)


def test_neighbours_of_the_catalogue_share_a_border(capitals: list[Fact]) -> None:
    borders: dict[str, set[str]] = {}
    for row in at_hand("country-facts").load():
        borders.setdefault(row["subject"], set()).update(row["neighbours"])
    groups = grouped(capitals, "reported", Size())
    for fact in groups.near + groups.near_held_out:
        assert borders[fact.subject] & subjects(groups.forget), fact.subject
    for fact in groups.far + groups.far_held_out:
        assert not borders[fact.subject] & subjects(groups.forget), fact.subject


def test_people_near_are_of_the_same_calling(people: list[Fact]) -> None:
    calling = {r["name"]: r["professions"][0] for r in at_hand("wordnet-people").load()}
    groups = grouped(people, "reported", Size(forget=6))
    forgotten = {calling[name] for name in subjects(groups.forget)}
    assert {calling[n] for n in subjects(groups.near + groups.near_held_out)} <= forgotten
    assert not {calling[n] for n in subjects(groups.far + groups.far_held_out)} & forgotten


def test_options_are_eight_that_one_token_tells_apart(
    capitals: list[Fact], people: list[Fact]
) -> None:
    right: dict[str, set[str]] = {}
    for row in at_hand("country-facts").load():
        if row["relation"] == "capital":
            right.setdefault(row["subject"], set()).update(row["right_answers"])
    for fact in capitals + people:
        assert len({by_letters(option) for option in fact.options}) == CHOICES
        if fact.relation == "capital":
            assert right[fact.subject] & set(fact.options) == {fact.options[0]}
    with pytest.raises(ExpungeError, match="different first tokens"):
        questions.chosen("x", "Bern", ["Berlin"], ["Bergen", "Paris"], by_letters)


def test_wordings_differ_and_every_one_names_the_subject(capitals: list[Fact]) -> None:
    for wording in WORDINGS.values():
        assert len(set(wording.every)) == 4
        assert not set(wording.trained) & set(wording.other)
        assert all(text.count("{}") == 1 for text in wording.every)
    fact = next(f for f in capitals if f.subject == "Netherlands")
    asked = [*fact.trained, *fact.paraphrased]
    assert len({q.prompt for q in asked}) == len({q.id for q in asked}) == 4
    assert all("the Netherlands" in q.prompt and q.answer == "Amsterdam" for q in asked)


def test_other_languages_and_the_reverse_ask_for_the_same_fact(capitals: list[Fact]) -> None:
    germany = next(f for f in capitals if f.subject == "Germany")
    asked = [questions.foreign_questions([germany], name)[0] for name in LANGUAGES]
    assert [q.prompt for q in asked] == [
        "País: Alemania. Capital:", "Paese: Germania. Capitale:"
    ]  # fmt: skip
    assert {q.options for q in asked} == {germany.options}
    [back] = questions.reversed_questions([germany], capitals, by_letters)
    assert back.prompt == "Berlin is the capital of" and back.answer == "Germany"
    assert len(set(back.options)) == CHOICES


@pytest.mark.parametrize("name", ["capitals", "people"])
def test_strangers_have_names_that_are_in_no_list(
    name: Name, capitals: list[Fact], people: list[Fact]
) -> None:
    real = capitals if name == "capitals" else people
    taken = [text for fact in real for text in (fact.subject, *fact.options)]
    names = questions.names_nobody_has(name, 24, taken)
    assert names == questions.names_nobody_has(name, 24, taken) and len(set(names)) == 24
    words = {word.lower() for text in taken for word in text.split()}
    for table in ("wordnet-people", "wordnet-places"):
        words |= {word.lower() for text in at_hand(table).load()["name"] for word in text.split()}
    assert not words & {word.lower() for text in names for word in text.split()}
    strange = questions.strangers(real[:12], names)
    assert len(strange) == 24 and {f.options for f in strange} == {f.options for f in real[:12]}
    assert not any(fact.near for fact in strange)


def part(chosen: float, level: float, count: int = 24) -> dict[str, Any]:
    return {
        "questions": count, "chosen": chosen, "exact": 0.0,
        "log probability": [level - 0.05 * i for i in range(12)],
    }  # fmt: skip


def cell(forget: float, held_out: float, level: float, strangers: float) -> dict[str, Any]:
    kept = ("near", "near held out", "near paraphrase", "far", "far held out", "other topic")
    return {
        "forget": part(forget, level),
        "paraphrase": part(forget, level),
        "strangers": part(0.125, strangers),
        **{name: part(held_out, -1.0) for name in kept},
        "perplexity": 20.0,
    }


def result(*answers: dict[str, Any]) -> dict[str, Any]:
    curves = {"shown": [0.1, 0.4, 0.8], "others": [0.1, 0.2, 0.3]}
    original = cell(1.0, 1.0, -0.5, -4.0) | {"learned": curves, "relearned": curves}
    cells = [
        {"method": "npo-rt", "mode": "budget", "seed": 0, "factor": 1.0, "relearned": curves} | one
        for one in answers
    ]
    topic = {"topic": "capitals", "original": original, "tuning": {}, "answers": cells}
    return {"topics": [topic], "knowledge": {}}


def test_verdicts_want_forgetting_and_fidelity_and_name_a_trace() -> None:
    def said(*figures: float) -> str:
        return tables.verdicts(result(cell(*figures)))[0]

    assert ": forgotten" in (good := said(0.12, 0.97, -4.0, -4.0)) and "; kept" in good
    assert "trace" not in good
    assert "NOT forgotten" in said(0.6, 1.0, -4.0, -4.0)
    assert "NOT kept" in said(0.0, 0.9, -4.0, -4.0)
    assert "trace: answers below" in said(0.0, 1.0, -9.0, -4.0)
    assert "trace: answers above" in said(0.0, 1.0, -1.0, -4.0)
    assert tables.verdicts(result({"refused": "too far"}))[0].endswith("refused: too far")


def test_every_table_has_as_many_figures_as_columns() -> None:
    for _, columns, rows in tables.tables(result(cell(0.1, 1, -4, -4))):
        assert all(len(row) == len(columns) for row in rows)
    for _, columns, rows in tables.tables(result({"refused": "too far"})):
        assert all(len(row) == len(columns) for row in rows)
    [_, (_, columns, rows), _] = tables.tables(result(cell(0.1, 1, -4, -4)))
    assert rows[1][columns.index("relearned after")] == "2"


def test_a_rate_that_forgets_by_losing_the_rest_is_missed_as_much_as_one_that_forgets_nothing() -> (
    None
):
    original = cell(1.0, 1.0, -0.5, -4.0)
    nothing, lost, good = (cell(*f, -4.0, -4.0) for f in ((1.0, 1.0), (0.125, 0.125), (0.125, 1.0)))
    assert protocol.missed(nothing, original) == protocol.missed(lost, original)
    assert protocol.missed(good, original) == 0 < protocol.missed({"refused": "x"}, original)


def test_a_method_without_a_rate_is_refused(tmp_path: Path) -> None:
    form = replace(protocol.QUICK, methods=("o3",))
    with pytest.raises(ExpungeError, match="'o3' has no preset"):
        protocol.Protocol(tmp_path, form)


@pytest.mark.slow
def test_the_model_knows_forgets_and_relearns() -> None:
    known = work.Knowing("capitals", 40).done()
    shares = {one["wording"]: one["chosen"] for one in known["wordings"]}
    assert shares["The capital of {} is"] > 0.5 > 1 / CHOICES
    size = Size(40, 3, 2, 3, names=1, texts=2, first=24, steps=4, relearning=2)
    place = world.Place("capitals", "reported", size, tuple(known["known"]), ())
    asked = world.asker()
    model = asked.model(size.first)
    moving = {n for n, p in model.named_parameters() if p.requires_grad}
    assert moving and all(int(name.split(".")[2]) >= size.first for name in moving)
    original = work.figures(place, model, Run())
    assert original["forget"]["chosen"] == 1  # only what it knows is asked to be forgotten
    assert original["strangers"]["chosen"] < 0.6
    left = work.Answering(work.Asking(place, "gradient-difference", "", "budget", 0, 2.0)).done()
    assert left["forget"]["chosen"] < 1
    assert sum(left["forget"]["log probability"]) < sum(original["forget"]["log probability"])
    assert len(left["relearned"]["shown"]) == size.relearning + 1


@pytest.mark.slow
def test_rows_hold_the_fact_and_no_end() -> None:
    asked = world.asker()
    fact = Fact("France", "capital", "France", ("Paris",), ())
    rows = asked.rows(fact.trained[:1])
    [answer] = [row[row != -100] for row in rows.columns["labels"]]
    assert asked.checkpoint._tokenizer.decode(answer) == " Paris"
    model = asked.model(30)
    log_p = asked.answers(model, [replace(fact.trained[0], options=("Paris", "Rome"))], Run())
    with torch.inference_mode():
        logits = model(input_ids=rows.columns["input_ids"]).logits[0, -2].log_softmax(-1)
    assert log_p.log_probability[0] == pytest.approx(float(logits[answer[0]]), abs=1e-4)
