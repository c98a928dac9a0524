"""The benchmark of label-free forgetting: what goes, how a method is judged, and the table."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from expunge.benchmarks.label_free import tables
from expunge.benchmarks.label_free.protocol import Protocol
from expunge.benchmarks.label_free.tasks import TASKS, Task, removal, room
from expunge.benchmarks.label_free.work import LAF_ROW, STEP_3, STEP_4, SUBJECTS, Answering, Place
from expunge.data.samples import Samples
from expunge.errors import ExpungeError
from expunge.methods.laf import LAF
from expunge.methods.presets import _access


def labels_of(samples: Samples) -> Tensor:
    found: Tensor = samples.batch(torch.arange(len(samples)), {"label"})["label"]
    return found


@pytest.mark.parametrize(("task", "share", "classes"), [
    ("random", 0.4, (5, 6, 7, 8, 9)),
    ("noisy labels", 0.6, (0, 1, 2, 3, 4)),
])  # fmt: skip
def test_the_published_share_of_the_published_classes_goes(
    task: Task, share: float, classes: tuple[int, ...]
) -> None:
    its, clean = removal("digits", task), labels_of(room("digits").train)
    for label in range(10):
        own = int((clean == label).sum())
        gone = int((clean[its.forget] == label).sum())
        assert gone == (round(share * own) if label in classes else 0)
    assert its.request.target.rows(its.table).sort().values.tolist() == its.forget.tolist()


def test_wrong_labels_are_wrong_on_the_forget_rows_alone() -> None:
    its, clean = removal("digits", "noisy labels"), labels_of(room("digits").train)
    changed = labels_of(its.train) != clean
    assert changed.nonzero().reshape(-1).tolist() == its.forget.tolist()
    assert set(labels_of(its.train)[its.forget].tolist()) == set(range(10))
    for part in ("validation", "test"):
        held = its.rows(part)["Test"]
        assert torch.equal(labels_of(held), labels_of(getattr(room("digits"), part)))


def test_a_class_is_asked_about_apart_on_held_out_rows() -> None:
    rows = removal("digits", "class").rows("test")
    assert set(labels_of(rows["Train_f"]).tolist()) == {0}
    assert set(labels_of(rows["Test_f"]).tolist()) == {0}
    assert 0 not in labels_of(rows["Test_r"]).tolist()
    assert len(rows["Test_r"]) + len(rows["Test_f"]) == len(rows["Test"])
    assert "Test_f" not in removal("digits", "random").rows("test")


def test_rows_that_say_no_label_open_none() -> None:
    """What the table says of LAF and LF-SSD is what their access opens, while finding a preset,
    preparing and unlearning."""
    for name, subject in SUBJECTS.items():
        opened = (subject.method.prepares_with | _access(subject.method)).roles
        shut = all(fields is not None and "label" not in fields for fields in opened.values())
        assert shut == (subject.labels == "none"), name


def test_a_method_is_tuned_on_validation_rows_and_read_on_test_rows(tmp_path: Path) -> None:
    place = Place("digits", "class", tmp_path)
    found = Answering(place, "LF-SSD", 2).done()
    assert [trial["strength"] for trial in found["tried"]] == [1.0, 0.5, 2.0]
    best = min((t for t in found["tried"] if "gap" in t), key=lambda t: t["gap"])
    assert found["strength"] == best["strength"]
    assert len(found["preset"]) == len(found["tuned"]) == 2
    assert set(place.averaged()) <= set(found["tuned"][0])
    alone = Answering(place, "LF-SSD", 2, found["strength"]).done()
    for one, other in zip(alone["tuned"], found["tuned"], strict=True):
        assert {**one, "seconds": 0} == {**other, "seconds": 0}
    assert "preset" not in alone


def test_what_is_not_there_is_refused(tmp_path: Path) -> None:
    for given in ({"worlds": ("moon",)}, {"tasks": ("order",)}):
        with pytest.raises(ExpungeError, match=r"There is no (world|task)"):
            Protocol(tmp_path, **given)  # type: ignore[arg-type]
    with pytest.raises(ExpungeError, match="give it once"):
        Protocol(tmp_path, tasks=("class", "class"))
    with pytest.raises(ExpungeError, match="at least 2"):
        Protocol(tmp_path, seeds=1)


def row(kept: float, gone: float, gap: float) -> dict[str, Any]:
    return {"labels": "-", "Train_r": [kept, kept], "Train_f": [gone, gone], "gap": [gap, gap]}


def result_of(task: Task, laf: dict[str, Any], tuned: float = 0.02) -> dict[str, Any]:
    rows = {
        "original": row(0.99, 0.98, 0.4),
        "oracle": row(0.99, 0.9 if task == "random" else 0.0, 0.01),
        LAF_ROW: laf,
        STEP_3: row(0.3, 0.0, 0.3),
        STEP_4: row(0.99, 0.97, 0.4),
        "fine-tune": row(0.98, 0.1, tuned),
    }
    its = {"columns": ["Train_r", "Train_f"], "forget rows": 5, "train rows": 50}
    return {"worlds": {"digits": {task: {**its, "preset": rows, "tuned": rows}}}}


def test_the_checks_say_no_where_it_is_not_so() -> None:
    good, bad = row(0.97, 0.02, 0.015), row(0.5, 0.6, 0.45)
    assert all(tables.checks(result_of("class", good)).values())
    found = tables.checks(result_of("class", bad))
    assert sum(found.values()) == 1 * 2 + 2 * 1  # both ablations still stand as they were
    assert not all(tables.checks(result_of("class", good, tuned=0.01)).values())
    assert not all(tables.checks(result_of("random", row(0.97, 0.02, 0.2))).values())
    assert all(tables.checks(result_of("random", row(0.98, 0.92, 0.01))).values())


def test_a_failure_is_shown_with_its_reason() -> None:
    result = result_of("class", row(0.97, 0.02, 0.015))
    failed = {"labels": "both", "failed": "it does not forget here"}
    result["worlds"]["digits"]["class"]["preset"]["SCRUB"] = failed
    [_, _, rows], _ = tables.tables(result)
    assert ["SCRUB", "both", "failed", "failed", "-", "-", "-"] in rows
    assert any("SCRUB failed: it does not forget" in line for line in tables.sentences(result))


def test_every_task_and_row_of_the_paper_is_there() -> None:
    assert TASKS == ("class", "random", "noisy labels")
    assert isinstance(SUBJECTS[LAF_ROW].method, LAF)
