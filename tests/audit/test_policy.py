"""Policies: a YAML file replaces what it names, and a misspelt key is refused."""

from pathlib import Path

import pytest

from expunge.audit.policy import QUESTIONS, Policy
from expunge.errors import ExpungeError


def stored(folder: Path, content: str) -> Path:
    path = folder / "policy.yaml"
    path.write_text(content)
    return path


def test_what_a_file_names_is_replaced_and_the_rest_stays(tmp_path: Path) -> None:
    found = Policy.read(stored(tmp_path, "kept: {least: 0.99}\nquestions: [kept]\n"))
    assert found.kept.least == 0.99
    assert found.kept.tolerance == Policy().kept.tolerance
    assert found.questions == ("kept",)
    assert Policy.read(stored(tmp_path, "")) == Policy()
    assert Policy().questions == QUESTIONS


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("kepts: {least: 0.9}", "did you mean 'kept'"),
        ("kept: {last: 0.9}", "did you mean 'least'"),
        ("kept: {least: 1.2}", "kept.least"),
        ("population: 19", "population"),
        ("shadows: 5", "shadows"),
        ("questions: [forgoten]", "questions.0"),
        ("[1, 2]", "the file"),
        ("a: [", "not readable YAML"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_sentence(
    tmp_path: Path, content: str, said: str
) -> None:
    with pytest.raises(ExpungeError, match=said) as refused:
        Policy.read(stored(tmp_path, content))
    assert "\n" not in str(refused.value)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExpungeError, match="cannot be read"):
        Policy.read(tmp_path / "none.yaml")


def test_every_key_says_what_it_is_for() -> None:
    for section in (Policy, *(type(getattr(Policy(), n)) for n in Policy.model_fields)):
        for name, field in getattr(section, "model_fields", {}).items():
            assert field.description, f"{section} {name}"
