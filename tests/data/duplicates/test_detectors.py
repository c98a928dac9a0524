"""Detectors on shipped texts and pictures: what is a copy, what is not, what the measures are."""

import io
from collections.abc import Callable, Sequence

import datasets
import numpy as np
import pytest
from PIL import Image

from expunge.data import emoji_grid
from expunge.data.duplicates.content import Compared, Searched
from expunge.data.duplicates.exact import ExactCopy
from expunge.data.duplicates.keys import KeyAgreement, Keys, Numbers, NumbersAgree, key_of
from expunge.data.duplicates.normal import normalised, words
from expunge.data.duplicates.pictures import NearEmbedding, NearPicture, Pictures, Vectors
from expunge.data.duplicates.terms import Term
from expunge.data.duplicates.text import NearText, PlainText, QuotedText, Texts, jaccard
from expunge.errors import ExpungeError

LETTER = (
    "Dear Charles, the engine weaves algebraical patterns just as the Jacquard loom weaves flowers "
    "and leaves. I have drawn up a table of the operations by which the numbers of Bernoulli may "
    "be computed without a human hand, and enclose it with my notes on your memoir."
)


def drawings(count: int = 60) -> list[Image.Image]:
    table = emoji_grid.load("test").select(range(count))
    return [Image.fromarray(p) for p in emoji_grid.pixels(table).permute(0, 2, 3, 1).numpy()]


def stored_as_jpeg(picture: Image.Image, quality: int) -> Image.Image:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=quality)
    return Image.open(io.BytesIO(file.getvalue())).convert("RGB")


def test_normalising_folds_case_width_accents_and_space() -> None:
    assert normalised("  ＡＤＡ\u00a0 Lovelâce\n") == "ada lovelace"
    assert normalised("Straße") == normalised("STRASSE")
    assert words("don't (ever)-stop_now") == ["don", "t", "ever", "stop", "now"]
    assert words("山田 x") == ["山", "田", "x"]


def test_normalising_twice_changes_nothing() -> None:
    for text in ("ﬁ Å ǆ İ ß", LETTER, "Ⅷ № ½"):
        assert normalised(normalised(text)) == normalised(text)


@pytest.mark.parametrize(
    ("change", "detector"),
    [
        (str, "exact"),
        (str.upper, "same words"),
        (lambda t: t.replace(" ", "\n ").replace(",", " -"), "same words"),
        (lambda t: t.replace("table", "list").replace("hand", ""), "minhash"),
        (lambda t: f"He said:\n> {t}\n" + " ".join(f"word{i}" for i in range(150)), "quoted"),
    ],
)
def test_each_copy_of_a_text_is_found_by_its_detector(
    change: Callable[[str], str], detector: str
) -> None:
    detectors = {d.name: d for d in (ExactCopy(), PlainText(), NearText(), QuotedText())}
    rows = Texts.of(["an unrelated line", change(LETTER), ""])
    found = detectors[detector].matches(Texts.of([LETTER]), rows)
    assert [m.row for m in found] == [1]


def test_empty_texts_are_no_copies_of_one_another() -> None:
    empty = Texts.of(["", " .. "])
    for detector in (ExactCopy(), PlainText(), NearText(), QuotedText()):
        found = detector.matches(empty, Texts.of(["", " .. "]))
        assert [m for m in found if m.query == 0] == []


def test_the_reported_similarity_is_the_true_jaccard_index() -> None:
    one, other = Texts.of(["a b c"]), Texts.of(["a b d"])
    assert jaccard(one.shingles[0], other.shingles[0]) == 3 / 7  # a, b, a b of a b c d, ab bc bd
    assert NearText().nearest(one, other).similarity[0] == 3 / 7


def test_sketches_lose_no_pair_that_comparing_all_finds() -> None:
    table = emoji_grid.concepts()
    texts = Texts.of(
        [f"{c}: {', '.join(t)}" for c, t in zip(table["concept"], table["tags"], strict=True)]
    )
    queries = texts.select(range(100))
    found = {(m.query, m.row) for m in NearText().matches(queries, texts)}
    near = NearText().nearest(queries, texts, np.arange(100))
    lost = [
        q for q in range(100) if near.similarity[q] >= 0.6 and (q, int(near.rows[q])) not in found
    ]
    assert lost == []
    assert found == {(m.query, m.row) for m in NearText().matches(queries, texts)}


def test_a_footer_of_many_texts_does_not_make_a_quotation() -> None:
    footer = "sent with love from the mailing list of the friends of tea and of long evenings"
    rows = Texts.of([f"message {i} of that year {footer}" for i in range(100)])
    assert QuotedText().matches(Texts.of([footer]), rows) == []
    assert len(QuotedText(common=1.0).matches(Texts.of([footer]), rows)) == 100


@pytest.mark.parametrize("quality", [60, 90])
def test_recompressed_pictures_are_found_and_other_drawings_are_not(quality: int) -> None:
    pictures = drawings()
    copies = Pictures.of([stored_as_jpeg(p, quality) for p in pictures])
    found = NearPicture().matches(Pictures.of(pictures), copies)
    assert {m.query for m in found if m.query == m.row} >= set(range(58))
    assert sum(m.query != m.row for m in found) <= 3


def test_resized_pictures_are_found_and_mirrored_ones_are_not() -> None:
    pictures = [p for p in drawings() if np.abs(_mirror_difference(p)).mean() > 15]
    assert len(pictures) > 5
    large = Pictures.of([p.resize((128, 128), Image.Resampling.LANCZOS) for p in pictures])
    found = NearPicture().matches(Pictures.of(pictures), large)
    assert {m.query for m in found if m.query == m.row} == set(range(len(pictures)))
    flipped = [p.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for p in pictures]
    found = NearPicture().matches(Pictures.of(pictures), Pictures.of(flipped))
    assert not any(m.query == m.row for m in found)


def _mirror_difference(picture: Image.Image) -> np.ndarray:
    pixels = np.asarray(picture, np.float64)
    return pixels - pixels[:, ::-1]


def test_pictures_of_one_colour_are_alike_by_their_colour_alone() -> None:
    plain = Pictures.of([Image.new("RGB", (40, 40), c) for c in ((250, 250, 250), (90, 0, 0))])
    other = Pictures.of([Image.new("RGB", (9, 30), c) for c in ((250, 250, 250), (0, 90, 0))])
    assert [(m.query, m.row) for m in NearPicture().matches(plain, other)] == [(0, 0)]


def test_the_pixels_are_compared_and_not_the_file() -> None:
    picture = drawings(1)[0]
    file = io.BytesIO()
    picture.convert("RGBA").save(file, "PNG")
    again = Image.open(io.BytesIO(file.getvalue()))
    assert len(ExactCopy().matches(Pictures.of([picture]), Pictures.of([again]))) == 1
    assert Pictures.of([None]).digests == [b""]


def test_any_function_to_vectors_can_be_the_embedding() -> None:
    def colour(pictures: Sequence[Image.Image]) -> Vectors:
        return np.stack([np.asarray(p, np.float32).mean((0, 1)) for p in pictures])

    pictures = drawings(20)
    turned = [p.rotate(90) for p in pictures]
    rows = Pictures.of(turned, colour)
    found = NearEmbedding(0.9999).matches(Pictures.of(pictures, colour), rows)
    assert {(m.query, m.row) for m in found} >= {(i, i) for i in range(20)}


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("Lovelace, Ada", "ADA LOVELACE", True),
        ("Ada+list@Example.org", "ada@example.org", True),
        ("1815-12-10", "10.12.1815", True),
        ("007", "7", True),
        ("Ada", "Adam", False),
    ],
)
def test_two_ways_to_write_a_key(one: str, other: str, same: bool) -> None:
    assert (key_of(one) == key_of(other)) is same


def test_a_missing_key_agrees_with_nothing() -> None:
    rows = Keys.of([["Ada", None], ["1815", None]])
    assert [(m.query, m.row) for m in KeyAgreement().matches(rows, rows)] == [(0, 0)]


def test_numbers_agree_within_a_share_of_the_spread() -> None:
    rows = Numbers(np.array([[1.0, 100.0], [1.0004, 100.0], [2.0, 300.0], [np.nan, 100.0]]))
    found = NumbersAgree(tolerance=0.001).matches(rows.select([0]), rows)
    assert [m.row for m in found] == [0, 1]


@pytest.mark.parametrize(
    ("cell", "named"),
    [
        ("ADA LOVELACE wrote", True),
        ("Lovelace, Ada", True),
        ("ada.lovelace@example.org", True),
        ("Ada K. Lovelace", True),
        ("Adà\u2003Lovelâce", True),
        ("Adam Lovelace", False),
        ("Ada Lovelaces", False),
        ("Ada King Lovelace", False),
    ],
)
def test_where_a_name_is_found(cell: str, named: bool) -> None:
    assert bool(Term("Ada Lovelace").hits({"text": [cell]})) is named


@pytest.mark.parametrize(
    ("cell", "named"),
    [
        ("<Ada@Example.org>", True),
        ("ada+tea@example.org, bob", True),
        ("ada@example.org.", True),
        ("xada@example.org", False),
        ("ada@example.org.uk", False),
    ],
)
def test_where_an_address_is_found(cell: str, named: bool) -> None:
    assert bool(Term("ada@example.org").hits({"text": [cell]})) is named


def test_what_is_not_there_is_answered_with_the_nearest_word() -> None:
    (first, last) = Term("Ada Lovelace").nearest({"text": ["Ada Lovelase", "Ada"]})
    assert (first.rows, last.rows, last.nearest) == (2, 0, "lovelase")
    with pytest.raises(ExpungeError, match="no letter"):
        Term("?!")


def test_content_is_compared_and_not_what_rows_are_called() -> None:
    table = datasets.Dataset.from_dict(
        {"id": ["1", "2"], "subject": ["a b c d", "b"], "kind": ["x", "x"], "note": [LETTER] * 2}
    )
    searched = Searched("notes", table)
    assert searched.compared_by_default() == ("note",)
    assert Searched("emoji", emoji_grid.load("test")).compared_by_default() == ("image",)
    with pytest.raises(ExpungeError, match="no column 'text'"):
        Compared.of(searched, ["text"])


def test_the_digest_of_a_table_is_of_its_rows_and_not_of_their_order() -> None:
    table = datasets.Dataset.from_dict({"id": ["1", "2"], "note": ["a", "b"]})
    one, other = Searched("a", table), Searched("b", table.select([1, 0]))
    assert one.digest == other.digest != Searched("c", table.select([0])).digest
