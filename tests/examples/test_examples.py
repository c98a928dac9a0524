"""The examples run, and the README shows them as they are."""

import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_the_library_example_forgets_two_classes_and_takes_one_back(
    capsys: pytest.CaptureFixture[str],
) -> None:
    names = runpy.run_path(str(ROOT / "examples" / "library.py"))
    after, retained = names["course"].matrix().after, names["course"].retained()
    assert after[-1].max() <= 0.1
    assert retained[-1] > 0.85
    assert len(names["deployment"].history.requests()) == 1
    assert capsys.readouterr().out


def test_the_readme_shows_the_library_example_word_by_word() -> None:
    [shown] = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    source = (ROOT / "examples" / "library.py").read_text()
    assert shown.strip() == source.split('"""', 2)[2].strip()


def test_every_file_that_the_documents_link_to_is_there() -> None:
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_no_figure_is_left_to_be_filled_in() -> None:
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        assert "@@" not in page.read_text()
