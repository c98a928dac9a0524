"""A researcher's own file: methods are found in it, and what one lacks is said at once."""

import dataclasses
from pathlib import Path

import pytest

from expunge.cli.own_method import method_classes, own_methods
from expunge.errors import ExpungeError
from expunge.methods.protocol import Method

MINE = Path(__file__).parents[2] / "examples" / "mine.py"

HEAD = """
from dataclasses import dataclass
from typing import ClassVar
from expunge.methods.gradient_ascent import GradientAscent
from expunge.methods.protocol import ByDescent
"""

COMPLETE = """
@dataclass(frozen=True)
class Mine:
    name: ClassVar[str] = "mine"
    paper: ClassVar[str] = "nobody, 2026"
    needs: ClassVar[tuple[type, ...]] = ()
    sequential: ClassVar[bool] = False
    prepares_with: ClassVar[object] = None
    unlearns_with: ClassVar[object] = None
    rate: float = 0.1
    def prepare(self, problem, run): ...
    def unlearn(self, problem, artifact, run): ...
"""


def written(tmp_path: Path, text: str, name: str = "own.py") -> Path:
    path = tmp_path / name
    path.write_text(HEAD + text)
    return path


def test_the_shipped_example_is_a_method_with_a_declared_search() -> None:
    [found] = method_classes([str(MINE)])
    assert found.name == "random-labels"
    assert found.space.declared
    method = found.made({"epochs": 2})
    assert isinstance(method, Method)
    assert dataclasses.asdict(method)["epochs"] == 2  # type: ignore[call-overload]


def test_several_methods_stand_in_their_order_and_imported_ones_do_not_count(
    tmp_path: Path,
) -> None:
    second = COMPLETE.replace("Mine", "Other").replace('"mine"', '"other"')
    path = written(tmp_path, COMPLETE + second)
    assert [each.name for each in method_classes(["negation", str(path)])] == [
        "negation",
        "mine",
        "other",
    ]


def test_a_file_may_import_a_file_beside_it(tmp_path: Path) -> None:
    (tmp_path / "beside_it_77.py").write_text("RATE = 0.25")
    path = written(tmp_path, "from beside_it_77 import RATE\n" + COMPLETE.replace("0.1", "RATE"))
    [found] = method_classes([str(path)])
    assert found.space.ranges == {}
    assert getattr(found.made({}), "rate") == 0.25  # noqa: B009


def test_a_changed_file_has_another_digest(tmp_path: Path) -> None:
    [one] = method_classes([str(written(tmp_path, COMPLETE))])
    [two] = method_classes([str(written(tmp_path, COMPLETE + "# changed"))])
    assert one.source != two.source


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds no method"),
        ("class", "is not Python"),
        ("raise ValueError('no')", "fails when it is run (ValueError: no)"),
        (COMPLETE.replace("(frozen=True)", ""), "no frozen dataclass"),
        (COMPLETE.replace("@dataclass(frozen=True)", ""), "no frozen dataclass"),
        (COMPLETE.replace("rate: float = 0.1", "rate: float"), "'rate' of Mine"),
        (COMPLETE.replace("    needs: ClassVar[tuple[type, ...]] = ()\n", ""), "lacks needs"),
        (COMPLETE.replace("def prepare", "def other"), "lacks prepare"),
        (COMPLETE.replace("artifact, run", "run"), "'unlearn' of Mine"),
        (COMPLETE.replace('= "mine"', "= 3"), "a text is expected"),
        (COMPLETE.replace("0.1", "0.1\n    search: ClassVar[object] = 3"), "`search` of Mine"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_sentence(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(ExpungeError) as refused:
        own_methods(written(tmp_path, text))
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["missing.py"], "cannot be read"),
        (["negatoin"], "Did you mean 'negation'"),
        (["negation", "negation"], "given twice"),
    ],
)
def test_an_argument_that_names_nothing_is_refused(given: list[str], said: str) -> None:
    with pytest.raises(ExpungeError, match=said):
        method_classes(given)


def test_a_change_in_a_file_beside_it_is_another_method(tmp_path: Path) -> None:
    (tmp_path / "steps_of_mine").mkdir()
    (tmp_path / "steps_of_mine" / "__init__.py").write_text("from . import inner\n")
    (tmp_path / "steps_of_mine" / "inner.py").write_text("RATE = 0.1\n")
    (tmp_path / "unrelated.py").write_text("")
    path = written(tmp_path, "import steps_of_mine\n" + COMPLETE)
    [first] = method_classes([str(path)])
    (tmp_path / "unrelated.py").write_text("x = 1\n")
    [same] = method_classes([str(path)])
    (tmp_path / "steps_of_mine" / "inner.py").write_text("RATE = 0.2\n")
    [changed] = method_classes([str(path)])
    assert first.source == same.source != changed.source
