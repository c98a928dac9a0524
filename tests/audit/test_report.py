"""Facts about the report: complete, self-contained, escaped, and nothing but its figures."""

import copy
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from expunge.audit.figures import ReportFigures, read_figures
from expunge.audit.report import render_html, write_report
from expunge.errors import ExpungeError

SECTIONS = (
    "headline",
    "further-tables",
    "persistence",
    "re-emergence",
    "relearning",
    "strengths",
    "revocation",
    "pictures",
    "limits",
    "provenance",
)


class Page(HTMLParser):
    """Tags, ids and every address that a browser would fetch."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.addresses: list[str] = []
        self.open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(str(value))
            if name in ("src", "srcset", "href", "action", "data", "poster"):
                self.addresses.append(str(value))
        if tag not in ("meta", "img", "source", "br", "link"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_and_all_pictures_are_written(figures: ReportFigures, tmp_path: Path) -> None:
    files = write_report(figures, tmp_path / "new" / "report")
    assert [file.name for file in files] == [
        "report.html",
        "figures.json",
        "persistence.png",
        "relearning.png",
        "headline.png",
    ]
    for file in files[2:]:
        with Image.open(file) as picture:
            assert picture.width > 1000
    assert render_html(read_figures(files[1].read_text())) == files[0].read_text()


def test_the_page_has_all_sections_and_asks_for_nothing_outside(figures: ReportFigures) -> None:
    html = render_html(figures)
    page = Page(html)
    assert [name for name in page.ids if name in SECTIONS] == list(SECTIONS)
    assert page.open == []
    assert page.addresses
    assert all(address.startswith("data:image/") for address in page.addresses)
    assert "http://" not in html
    assert "https://" not in html
    assert not re.findall(r"url\(|@import", html)
    assert not {"script", "link", "iframe"} & set(page.tags)


def test_a_section_without_figures_is_left_out(tmp_path: Path) -> None:
    files = write_report({"title": "Nothing yet"}, tmp_path)
    assert [file.name for file in files] == ["report.html", "figures.json"]
    assert not set(SECTIONS) & set(Page(files[0].read_text()).ids)


@pytest.mark.parametrize("section", ["headline", "persistence", "relearning"])
def test_each_picture_is_drawn_from_its_own_section(
    section: str, figures: ReportFigures, tmp_path: Path
) -> None:
    alone: Any = {"title": "One", section: figures[section]}  # type: ignore[literal-required]
    expected = {
        "headline": {"headline.png"},
        "persistence": {"headline.png", "persistence.png"},
        "relearning": {"relearning.png"},
    }
    files = {file.name for file in write_report(alone, tmp_path)}
    assert files - {"report.html", "figures.json"} == expected[section]


def strings_replaced(value: Any, text: str) -> Any:
    """The figures with ``text`` for every string that a user could have chosen."""
    chosen = {"role", "kind", "data"}
    if isinstance(value, dict):
        return {k: v if k in chosen else strings_replaced(v, text) for k, v in value.items()}
    if isinstance(value, list):
        return [strings_replaced(v, text) for v in value]
    return text if isinstance(value, str) else value


@pytest.mark.parametrize(
    "name", ["<script>alert(1)</script>", '" onload="alert(1)', "{{ 1237 * 10 }}", "$\\frac{1$ _x"]
)
def test_names_are_shown_as_they_are(name: str, figures: ReportFigures, tmp_path: Path) -> None:
    figures["relearning"]["panels"] = figures["relearning"]["panels"][:1]
    hostile = strings_replaced(copy.deepcopy(figures), name)
    hostile["provenance"]["versions"] = {name: name}
    html = write_report(hostile, tmp_path)[0].read_text()
    page = Page(html)
    assert "script" not in page.tags
    assert "<script" not in html
    assert ' onload="' not in html
    assert "12370" not in html


def test_every_number_of_a_matrix_is_in_the_page(figures: ReportFigures) -> None:
    figures["persistence"]["matrices"][0]["after"][2][1] = 0.4321
    assert ">.43</td>" in render_html({"title": "x", "persistence": figures["persistence"]})


def test_values_that_were_not_measured_are_a_dash(figures: ReportFigures) -> None:
    row = figures["headline"]["rows"][0]
    row["seconds"] = None
    html = render_html({"title": "x", "headline": figures["headline"]})
    assert "<td>–</td>" in html


def test_figures_that_do_not_fit_are_refused_and_nothing_is_written(
    figures: ReportFigures, tmp_path: Path
) -> None:
    def broken(change: Any) -> Any:
        figure: Any = copy.deepcopy(figures)
        change(figure)
        return figure

    cases: list[tuple[Any, str]] = [
        (broken(lambda f: f.pop("title")), "title: field required"),
        (broken(lambda f: f.update(persistance={})), "persistance"),
        (broken(lambda f: f["headline"]["rows"][0].update(retained=float("nan"))), "retained"),
        (broken(lambda f: f["headline"]["rows"][0]["forgotten"].pop()), "4 values for 5 requests"),
        (broken(lambda f: f["persistence"]["matrices"][1]["after"].pop()), "4 values for 5"),
        (broken(lambda f: f["persistence"].update(scale=(1.0, 1.0))), "scale"),
        (broken(lambda f: f["persistence"].update(highlighted=["none"])), "highlighted"),
        (broken(lambda f: f["relearning"]["panels"][0].update(curves=[])), "curves"),
        (broken(lambda f: f["pictures"][0]["pictures"][0].update(data="?")), "base64"),
    ]
    for figure, message in cases:
        with pytest.raises(ExpungeError, match=message):
            write_report(figure, tmp_path / "report")
    assert not (tmp_path / "report").exists()


def test_text_that_is_no_json_is_refused() -> None:
    with pytest.raises(ExpungeError, match="no JSON"):
        read_figures("{")
    assert read_figures(json.dumps({"title": "x"})) == {"title": "x"}
