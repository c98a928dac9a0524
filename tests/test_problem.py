"""What a method may see of a problem, and what raises when it is touched."""

from collections.abc import Collection, Sequence
from dataclasses import replace

import pytest
import torch
from datasets import Dataset
from torch import Tensor, nn

from expunge.changes.history import History
from expunge.data.samples import ROW, Batch, Samples, TensorSamples
from expunge.errors import AccessError, ExpungeError
from expunge.families.classifier import Classifier
from expunge.problem import Access, Problem
from expunge.recipe import Recipe, Record, Role, Trained
from expunge.requests import Request, Rows, resolve
from expunge.run import Run


class Untouchable:
    """Samples that fail the test when anything of them is read."""

    def _touched(self) -> AssertionError:
        return AssertionError("data outside the access were touched")

    @property
    def ids(self) -> Sequence[str]:
        raise self._touched()

    @property
    def subjects(self) -> Sequence[str]:
        raise self._touched()

    @property
    def fields(self) -> frozenset[str]:
        raise self._touched()

    def __len__(self) -> int:
        raise self._touched()

    def batch(self, rows: Tensor, fields: Collection[str] | None = None) -> Batch:
        raise self._touched()

    def select(self, rows: Tensor) -> Samples:
        raise self._touched()


class UntouchableLabels(TensorSamples):
    """Samples whose labels fail the test when they are read."""

    def batch(self, rows: Tensor, fields: Collection[str] | None = None) -> Batch:
        wanted = self.columns if fields is None else fields
        assert "label" not in wanted, "labels outside the access were read"
        return super().batch(rows, fields)


def samples(kind: type[TensorSamples] = TensorSamples) -> TensorSamples:
    columns = {"image": torch.arange(6.0).reshape(3, 2), "label": torch.tensor([0, 1, 0])}
    return kind(["a", "b", "c"], ["anna", "boris", "anna"], columns)


def recipe() -> Recipe:
    class Keep:
        def fit(self, model: nn.Module, family: object, data: object, run: Run) -> Trained:
            return Trained(model)

    return Recipe(lambda seed: nn.Linear(2, 2), Classifier(), Keep())


def problem(**data: Samples) -> Problem:
    return Problem(
        model=nn.Linear(2, 2),
        family=Classifier(classes=2),
        request=Request("anna", Rows("subject", ("anna",))),
        data={Role(name): given for name, given in data.items()},
        history=History.of("base"),
    )


def test_roles_outside_the_access_raise_and_their_data_are_never_touched() -> None:
    opened = problem(forget=samples(), retain=Untouchable()).opened(Access.to(Role.FORGET))
    assert opened.data[Role.FORGET].ids == ["a", "b", "c"]
    with pytest.raises(AccessError, match="touched the retain set; its access opens forget"):
        opened.data[Role.RETAIN]
    with pytest.raises(AccessError):
        opened.data.get(Role.RETAIN)  # a default does not hide the breach
    assert Role.RETAIN not in opened.data
    assert list(opened.data) == [Role.FORGET]
    assert len(opened.data) == 1
    assert dict(opened.data).keys() == {Role.FORGET}


def test_an_access_to_nothing_opens_nothing() -> None:
    data = {role.value: Untouchable() for role in Role}
    opened = problem(**data).opened(Access())
    assert list(opened.data) == []
    for role in Role:
        with pytest.raises(AccessError, match="its access opens nothing"):
            opened.data[role]


def test_fields_outside_the_access_raise_and_are_never_read() -> None:
    access = Access({Role.FORGET: frozenset({"image"})})
    opened = problem(forget=samples(UntouchableLabels)).opened(access).data[Role.FORGET]
    rows = torch.tensor([2, 0])
    for view in (opened, opened.select(torch.tensor([0, 1, 2]))):
        assert set(view.batch(rows)) == {"image", ROW}
        assert torch.equal(view.batch(rows, {"image"})["image"], torch.tensor([[4.0, 5], [0, 1]]))
        assert view.fields == {"image"}
        assert (len(view), view.ids) == (3, ["a", "b", "c"])
        for wanted in ({"label"}, {"image", "label"}):
            with pytest.raises(AccessError, match=r"read 'label' of the forget set.*opens image"):
                view.batch(rows, wanted)
        with pytest.raises(AccessError, match="read 'subject'"):
            _ = view.subjects


def test_a_role_opened_without_fields_shows_its_ids_alone() -> None:
    access = Access({Role.FORGET: frozenset()})
    opened = problem(forget=samples(UntouchableLabels)).opened(access).data[Role.FORGET]
    assert opened.ids == ["a", "b", "c"]
    assert set(opened.batch(torch.tensor([1]))) == {ROW}
    with pytest.raises(AccessError, match="opens no field"):
        opened.batch(torch.tensor([1]), {"image"})
    assert access.describe() == "forget (ids)"


def test_subjects_are_read_where_they_are_named_or_all_fields_are_open() -> None:
    whole = problem(forget=samples())
    for fields in (None, frozenset({"subject"}), frozenset({"subject", "image"})):
        opened = whole.opened(Access({Role.FORGET: fields}))
        assert opened.data[Role.FORGET].subjects == ["anna", "boris", "anna"]


def test_no_public_attribute_reaches_the_data_behind_the_guard() -> None:
    forget, retain = samples(UntouchableLabels), samples()
    access = Access({Role.FORGET: frozenset({"image"})})
    guarded = problem(forget=forget, retain=retain).opened(access).data
    raw = [forget, forget.columns, forget.columns["label"], retain, retain.columns]
    for view in (guarded, guarded[Role.FORGET], guarded[Role.FORGET].select(torch.arange(2))):
        public = [name for name in dir(view) if not name.startswith("_") and name != "subjects"]
        held = [getattr(view, name) for name in public]
        assert not any(value is hidden for value in held for hidden in raw)
        assert not any(isinstance(value, TensorSamples | dict) for value in held)
        assert all(name.startswith("_") for name in vars(view))


def test_opening_again_opens_no_more() -> None:
    narrow = Access({Role.FORGET: frozenset({"image"})})
    twice = problem(forget=samples(), retain=Untouchable()).opened(narrow)
    again = twice.opened(Access.to(Role.FORGET))
    with pytest.raises(AccessError, match="read 'label'"):
        again.data[Role.FORGET].batch(torch.tensor([0]), {"label"})
    with pytest.raises(ExpungeError, match="retain"):
        twice.opened(Access.to(Role.FORGET, Role.RETAIN))


def test_a_role_that_the_problem_lacks_is_named_before_any_work() -> None:
    with pytest.raises(
        ExpungeError, match=r"the retain set; this problem has forget, test\. .*expunge methods"
    ):
        problem(forget=samples(), test=samples()).opened(Access.to(Role.FORGET, Role.RETAIN))
    with pytest.raises(ExpungeError, match="this problem has none"):
        problem().opened(Access.to(Role.FORGET))


def test_recipe_and_record_are_asked_for_by_name_and_shut_otherwise() -> None:
    bare = problem(forget=samples())
    full = replace(bare, recipe=recipe(), record=Record())
    for word, access in {
        "recipe": Access(recipe=True),
        "training record": Access(record=True),
    }.items():
        with pytest.raises(ExpungeError, match=f"needs the {word} of the model"):
            bare.opened(access)
    seen = full.opened(Access(recipe=True))
    assert (seen.recipe, seen.record) == (full.recipe, None)
    seen = full.opened(Access(record=True))
    assert (seen.recipe, seen.record) == (None, full.record)


def test_the_union_of_accesses_opens_what_either_opens() -> None:
    image, label = frozenset({"image"}), frozenset({"label"})
    one = Access({Role.FORGET: image, Role.TEST: image}, recipe=True)
    two = Access({Role.FORGET: label, Role.TEST: None, Role.RETAIN: label}, record=True)
    both = Access(
        {Role.FORGET: image | label, Role.TEST: None, Role.RETAIN: label}, recipe=True, record=True
    )
    assert one | two == two | one == both
    assert one | Access() == one
    assert one | one == one


def test_what_an_access_opens_is_said_in_words() -> None:
    access = Access({Role.FORGET: frozenset({"label", "image"}), Role.RETAIN: None}, recipe=True)
    assert access.describe() == "forget (image, label), retain, recipe"
    assert Access().describe() == "nothing"


def test_the_retain_set_leaves_out_every_earlier_forget_set() -> None:
    subjects = ["anna", "boris", "carla", "anna", "dora", "boris"]
    table = Dataset.from_dict({"id": [str(i) for i in range(6)], "subject": subjects})
    every = TensorSamples(table["id"][:], subjects, {"image": torch.arange(6.0)})
    earlier: list[Request] = []
    for name, retained in (("boris", "0234"), ("dora", "023"), ("anna", "2")):
        request = Request(name, Rows("subject", (name,)))
        rows = resolve(request, table, earlier)
        retain, forget = every.select(rows.retain), every.select(rows.forget)
        assert "".join(retain.ids) == retained
        assert set(forget.subjects) == {name}
        assert rows.excluded == tuple(past.digest() for past in earlier)
        earlier.append(request)
