"""The digest of a method's code changes with the code that its results depend on."""

from pathlib import Path

import pytest

from expunge.audit import case
from expunge.audit.case import FOUNDATIONS, digest_of_code, digest_of_rooms, source_of
from expunge.methods.negation import Negation
from expunge.methods.ssd import SSD


def test_the_source_of_a_method_is_its_own_file_and_what_methods_stand_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = source_of(SSD)
    assert before == source_of(SSD) != source_of(Negation)
    assert len(before) == 64
    monkeypatch.setattr(case, "digest_of_rooms", lambda _: "other code")
    assert source_of(SSD) != before


def test_what_methods_stand_on_is_there() -> None:
    room = Path(case.__file__).parents[1]
    assert all((room / name / "__init__.py").is_file() for name in FOUNDATIONS)
    assert digest_of_rooms(FOUNDATIONS) == digest_of_code(room / name for name in FOUNDATIONS)


def test_code_is_told_apart_by_names_and_contents_of_python_files_alone(tmp_path: Path) -> None:
    deep = tmp_path / "methods" / "deep"
    deep.mkdir(parents=True)
    (deep / "one.py").write_text("x = 1")
    digests = [digest_of_code([tmp_path / "methods"])]
    (deep / "one.pyc").write_bytes(b"compiled")
    assert digest_of_code([tmp_path / "methods"]) == digests[0]
    (deep / "one.py").write_text("x = 2")
    digests.append(digest_of_code([tmp_path / "methods"]))
    alone = digest_of_code([deep / "one.py"])
    (deep / "one.py").write_text("x = 3")
    assert digest_of_code([deep / "one.py"]) != alone
    (deep / "one.py").write_text("x = 2")
    assert digest_of_code([deep / "one.py"]) == alone
    (deep / "one.py").rename(deep / "two.py")
    digests.append(digest_of_code([tmp_path / "methods"]))
    assert len(set(digests)) == 3
