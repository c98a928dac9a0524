"""Facts about the report of an audit: complete, plain, escaped, silent about single rows."""

import copy
import json
import re
from collections.abc import Callable
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import jsonschema
import pytest

from expunge.audit.audit_page import PLAIN, STATES, render_html, write_page, write_pictures
from expunge.audit.audit_pictures import histogram_picture
from expunge.audit.audit_schema import checked_audit, read_audit, schema_text
from expunge.audit.plots import DARK, LIGHT
from expunge.audit.policy import QUESTIONS
from expunge.changes.deletion import DeletionState
from expunge.errors import ExpungeError

PUBLISHED = Path(__file__).parents[2] / "docs" / "audit.schema.json"
VOID = ("meta", "link", "br", "img", "rect", "circle", "polyline")

Stored = dict[str, Any]


class Parts(HTMLParser):
    """The tags of a page, its text, and every address that a browser would fetch."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.addresses: list[str | None] = []
        self.pictures: list[str] = []
        self.captions: list[str] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        known = dict(attrs)
        self.addresses += [known[key] for key in ("src", "srcset", "href", "data") if key in known]
        if tag == "svg":
            self.pictures.append(known.get("aria-label") or "")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data
        if self.open and self.open[-1] == "figcaption":
            self.captions.append(data)


@pytest.fixture
def quick(stored_audits: dict[str, Stored]) -> Stored:
    return copy.deepcopy(stored_audits["quick"])


@pytest.fixture
def standard(stored_audits: dict[str, Stored]) -> Stored:
    return copy.deepcopy(stored_audits["standard"])


def klom(rows: str) -> Stored:
    """A figure of the adversarial level, which takes minutes to measure."""
    return {
        "name": f"KLoM, 95th percentile, {rows} rows",
        "result": "pass",
        "sentence": f"The 95th percentile of KLoM on {rows} rows is 0.9 nats.",
        "value": 0.9,
        "reference": 0.8,
        "against": "further oracles (the floor)",
        "threshold": 2.0,
        "interval": None,
        "original": 9.0,
        "details": {
            "mean": 0.3,
            "mean of the floor": 0.2,
            "values": [0.1, 0.2, 0.9],
            "floor": [0.1, 0.1, 0.8],
            "original": [2.0, 9.0, 8.0],
        },
    }


def every_kind(standard: Stored) -> Stored:
    """A stored audit with all kinds of pictures."""
    private = next(v for v in standard["verdicts"] if v["question"] == "private")
    private["evidence"] += [klom(rows) for rows in ("forget", "retain", "held-out")]
    return standard


@pytest.mark.parametrize("level", ["quick", "standard"])
def test_real_audits_fit_the_published_schema(level: str, stored_audits: dict[str, Stored]) -> None:
    stored = json.loads(json.dumps(stored_audits[level], allow_nan=False))
    schema = json.loads(PUBLISHED.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(stored, schema)
    assert checked_audit(stored).level == level


def test_the_published_schema_is_that_of_the_code() -> None:
    assert PUBLISHED.read_text(encoding="utf-8") == schema_text()


def test_every_question_figure_and_sentence_is_on_the_page(standard: Stored) -> None:
    page = Parts(render_html(standard | {"deletion state": "retrained", "expunge": "7.7"}))
    assert page.open == []
    text = " ".join(page.text.split())
    for verdict in standard["verdicts"]:
        assert text.count(verdict["asks"]) == 2, "in the summary and as a heading"
        assert PLAIN[verdict["question"]][verdict["result"]] in text
        for item in verdict["evidence"]:
            assert item["sentence"] in text
            assert item["name"] in text
        for sentence in (*verdict["missing"], *verdict["notes"]):
            assert sentence in text
    for digest in (*standard["models"]["oracles"], standard["models"]["deployed"]):
        assert digest in text
    assert "private.apart" in text
    assert "The weights before still hold it; they have to be removed." in text
    assert "Deletion state: retrained" in text


def test_the_plain_sentences_cover_every_question_result_and_deletion_state() -> None:
    assert set(PLAIN) == set(QUESTIONS)
    assert set(STATES) == {*DeletionState, "unknown"}
    assert all(len(sentences) == 3 for sentences in PLAIN.values())


def test_what_is_missing_and_what_stands_for_an_oracle_is_in_the_summary(quick: Stored) -> None:
    html = render_html(quick)
    summary = unescape(html[html.index('id="summary"') : html.index('id="forgotten"')])
    assert "This is no pass" in summary or "came out against" in summary
    assert "No model that never saw the data was there" in summary
    assert "chance stands for it" in summary
    missing = [sentence for verdict in quick["verdicts"] for sentence in verdict["missing"]]
    assert len(missing) > 1
    assert "Deletion state: unknown" in summary
    assert all(sentence in summary for sentence in missing)


def test_every_kind_of_figure_has_its_picture(standard: Stored) -> None:
    page = Parts(render_html(every_kind(standard)))
    assert set(page.captions) >= {
        "Log-odds of the right answer",
        "ROC of the loss attack",
        "ROC of the LiRA (fixed variance)",
        "KLoM on forget rows",
        "KLoM on retain rows",
        "KLoM on held-out rows",
        "Relearning from forgotten rows at the rate 0.001",
        "Relearning from related rows at the rate 0.001",
        "Persistence: the score on every request after every step",
    }
    shared = [one for one in page.captions if one.startswith("Relearning from forgotten rows")]
    assert len(shared) == 1, "two questions share it"
    assert all(page.pictures), "each picture says what it shows"


def test_the_words_for_a_picture_have_its_numbers(standard: Stored) -> None:
    page = Parts(render_html(standard))
    details = next(
        item["details"]
        for verdict in standard["verdicts"]
        for item in verdict["evidence"]
        if item["details"].get("shown") == "related"
    )
    (said,) = [one for one in page.pictures if "while learning related rows" in one]
    first, last = details["deployed"][0], details["deployed"][-1]
    assert f"from {first:.2f} to {last:.2f}" in said


def test_the_page_asks_nobody_for_anything(standard: Stored) -> None:
    html = render_html(every_kind(standard), examples=True)
    page = Parts(html)
    assert page.addresses == []
    assert not {"script", "iframe", "link", "img", "object"} & set(page.tags)
    assert not re.search(r"https?:|url\(|@import", html)
    assert "default-src &#39;none&#39;" in html or "default-src 'none'" in html


def hostile(value: Any) -> Any:
    """The same with markup at the end of every text that is no result and no level."""
    if isinstance(value, dict):
        return {
            key: one if key in ("result", "level") else hostile(one) for key, one in value.items()
        }
    if isinstance(value, list):
        return [hostile(one) for one in value]
    return f"{value}<b x=\"'&" if isinstance(value, str) else value


def test_every_text_is_escaped(standard: Stored) -> None:
    html = render_html(hostile(every_kind(standard)), examples=True)
    assert "<b x" not in html
    assert "&lt;b x=" in html
    assert Parts(html).open == []


def forgotten_names(stored: Stored) -> list[str]:
    return [
        name
        for verdict in stored["verdicts"]
        for item in verdict["evidence"]
        for name in item["details"].get("margins", {}).get("samples", [])
    ]


def with_a_copy(stored: Stored) -> Stored:
    duplicates = next(v for v in stored["verdicts"] if v["question"] == "duplicates left")
    (item,) = duplicates["evidence"]
    sentence = "1 retained rows repeat a forgotten one, such as row-9 (of row-8, exact); 0 may be."
    copies = [{"id": "row-9", "of": "row-8", "detector": "exact", "similarity": 1.0}]
    item |= {"result": "fail", "sentence": sentence, "details": {"copies": copies}}
    duplicates |= {"result": "fail", "reason": sentence}
    return stored


def test_no_row_is_named_unless_that_is_asked_for(standard: Stored) -> None:
    names = forgotten_names(standard)
    assert len(names) > 20
    without = Parts(render_html(with_a_copy(standard))).text
    assert not any(name in without for name in (*names, "row-8", "row-9"))
    assert "1 retained rows repeat a forgotten one" in without
    shown = Parts(render_html(with_a_copy(standard), examples=True)).text
    assert sum(name in shown for name in names) == 12
    assert "row-8" in shown
    assert "row-9" in shown


def test_without_details_the_figures_stay_and_only_their_pictures_go(standard: Stored) -> None:
    for verdict in standard["verdicts"]:
        for item in verdict["evidence"]:
            item |= {"details": {}, "interval": None, "original": None}
    page = Parts(render_html(standard))
    assert page.pictures == []
    assert all(i["sentence"] in page.text for v in standard["verdicts"] for i in v["evidence"])


def test_scores_that_are_no_shares_are_drawn_on_their_own_scale(standard: Stored) -> None:
    """Errors are stored with a minus sign, in units of the original's."""
    item = next(i for v in standard["verdicts"] for i in v["evidence"] if i["interval"])
    item |= {"value": -3.0, "original": -1.0, "reference": -2.5}
    item |= {"details": {"oracles": [-2.5]}, "interval": {"low": -4.0, "high": -2.0, "level": 0.95}}
    html = render_html(standard)
    assert "this model -3.00, held against -2.50, before -1.00" in html
    assert ">−4.12<" in html, "the axis begins a little below -4"


def without(key: str) -> Callable[[Stored], None]:
    return lambda stored: stored.__delitem__(key)


def shortened(stored: Stored) -> None:
    next(
        item["details"]["margins"]["deployed"].pop()
        for verdict in stored["verdicts"]
        for item in verdict["evidence"]
        if "margins" in item["details"]
    )


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (without("verdicts"), "at verdicts"),
        (lambda stored: stored.update(level="lenient"), "at level"),
        (lambda stored: stored.update(confusion={}), "is a self-test"),
        (shortened, "under 'margins'"),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_is_written(
    damage: Callable[[Stored], None], said: str, standard: Stored, tmp_path: Path
) -> None:
    damage(standard)
    with pytest.raises(ExpungeError, match=re.escape(said)):
        write_page(standard, tmp_path / "report.html")
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_read_or_refused_in_one_sentence(quick: Stored, tmp_path: Path) -> None:
    file = tmp_path / "audit.json"
    with pytest.raises(ExpungeError, match="cannot be read"):
        read_audit(file)
    file.write_text("{")
    with pytest.raises(ExpungeError, match="not readable JSON"):
        read_audit(file)
    file.write_text("[]")
    with pytest.raises(ExpungeError, match="does not fit the schema"):
        read_audit(file)
    file.write_text(json.dumps(quick))
    write_page(read_audit(file), tmp_path / "new" / "report.html")
    assert (tmp_path / "new" / "report.html").read_text() == render_html(quick)


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_a_picture_alone_is_a_whole_file_in_fixed_colours(theme: Any) -> None:
    picture = histogram_picture("rows & more", [("removed", "a<b", [0.0, 1.0, 1.0])], "nats")
    text = picture.standalone(theme)
    root = ElementTree.fromstring(text)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert theme.surface in text
    assert "var(" not in text


def test_a_histogram_counts_every_value_once() -> None:
    picture = histogram_picture("rows", [("removed", "all", [0.0] * 3 + [10.0])], "nats")
    (drawn,) = re.findall(r'class="area removed" points="([^"]*)"', str(picture.body))
    heights = {float(pair.split(",")[1]) for pair in drawn.split()}
    floor, low, high = sorted(heights, reverse=True)
    assert (floor - high) / (floor - low) == pytest.approx(3, abs=0.05)


def luminance(colour: str) -> float:
    parts = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", [0, 1])
def test_texts_stand_out_from_their_ground(scheme: int, quick: Stored) -> None:
    block = re.findall(r":root \{([^}]*)\}", render_html(quick))[scheme]
    colours = dict(re.findall(r"--([a-z]+): (#[0-9a-f]{6})", block))
    ground = luminance(colours["surface"])
    for name in ("ink", "faint", "good", "bad", "open"):
        text = luminance(colours[name])
        contrast = (max(text, ground) + 0.05) / (min(text, ground) + 0.05)
        assert contrast >= 4.5, name


def test_every_picture_of_the_page_is_a_file_too(standard: Stored, tmp_path: Path) -> None:
    written = write_pictures(standard, tmp_path)
    assert len(set(written)) == len(written) == len(Parts(render_html(standard)).pictures)
    for path in written:
        assert ElementTree.fromstring(path.read_text()).tag.endswith("svg")
