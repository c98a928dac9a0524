"""SpamAssassin mails: what is read from real-life headers and bodies, and the whole set."""

import json
from pathlib import Path

import pytest

from expunge.data import catalogue
from expunge.data.sets import spam_assassin as mails
from expunge.errors import IntegrityError

PLAIN = b"""From anna Thu Aug 22 12:36:23 2002
From: Anna Berg <Anna.Berg@Example.ORG>
Subject: =?ISO-8859-1?Q?Gr=FC=DFe?= from
 afar
Date: Thu, 22 Aug 2002 12:36:23 +0100
Content-Type: text/plain; charset=us-ascii

It cost \xa35.\r
Bye
"""
PARTED = b"""From: shop@example.com (The shop)
Date: Wed, 17 Jul 102 11:53:05 +0000
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary="b"

--b
Content-Type: multipart/alternative; boundary="c"

--c
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: base64

QnV5IOKCrCBub3c=
--c
Content-Type: text/html

<b>Buy now</b>
--c--
--b
Content-Type: image/gif
Content-Transfer-Encoding: base64

R0lGODlhAQABAAAAACw=
--b
Content-Type: text/plain; name="notes.txt"
Content-Disposition: attachment

not the body
--b--
"""
MARKED_UP = b"""From: "" <>
Subject: \xb1\xa4\xb0\xed
Date: yesterday
Content-Type: text/html; charset=no-such-charset

<p>caf\xe9</p>
"""


def source(folder: Path, *contents: tuple[str, bytes]) -> dict[str, Path]:
    """A package of these mails, (part, bytes) each."""
    data = folder / "package/data"
    names = []
    for i, (part, raw) in enumerate(contents):
        names.append(f"{part}/{i + 1:05d}.{'0123456789abcdef' * 2}.txt")
        (data / part).mkdir(parents=True, exist_ok=True)
        (data / names[-1]).write_bytes(raw)
    (data / "file_list.json").write_text(json.dumps(names))
    return {mails.PACKAGE.name: folder}


def test_sender_subject_line_date_and_text_of_a_plain_mail(tmp_path: Path) -> None:
    (row,) = mails.table(source(tmp_path, ("easy-ham-1", PLAIN)))
    assert row["id"] == "spam-assassin:easy-ham-1/00001"
    assert row["subject"] == "anna.berg@example.org"
    assert row["sender"] == "Anna Berg <Anna.Berg@Example.ORG>"
    assert row["subject_line"] == "Grüße from afar"
    assert row["date"] == "2002-08-22T11:36:23Z"
    assert row["text"] == "It cost £5.\nBye"  # eight-bit text that calls itself ASCII
    assert (row["label"], row["part"]) == (0, "easy-ham-1")


def test_a_mail_of_parts_gives_its_plain_text_decoded_and_no_attachment(tmp_path: Path) -> None:
    (row,) = mails.table(source(tmp_path, ("spam-2", PARTED)))
    assert row["text"] == "Buy € now"
    assert row["subject"] == "shop@example.com"
    assert row["label"] == 1
    assert row["subject_line"] is None and row["date"] is None  # year 102


def test_a_mail_in_html_keeps_its_markup_and_an_empty_sender_is_unknown(tmp_path: Path) -> None:
    (row,) = mails.table(source(tmp_path, ("hard-ham-1", MARKED_UP)))
    assert row["text"] == "<p>café</p>"
    assert row["subject"] == mails.UNKNOWN
    assert row["date"] is None


@pytest.mark.parametrize(
    ("raw", "charset", "text"),
    [
        (b"\xe9", "iso-8859-1", "é"),
        (b"\x93quoted\x94", "iso-8859-1", "“quoted”"),  # Windows-1252 under another name
        ("één".encode(), None, "één"),
        ("你好".encode("gb2312"), "gb2312", "你好"),
        (b"\x93", "rot13", "“"),  # a codec of Python that is no character set
        (b"+2AA-", "utf-7", "?"),  # a lone surrogate cannot be stored
    ],
)
def test_odd_character_sets(raw: bytes, charset: str | None, text: str) -> None:
    assert mails.decoded(raw, charset) == text


def test_mails_of_one_text_share_a_split(tmp_path: Path) -> None:
    same = [("spam-1", b"From: a%d@example.com\n\nsame" % i) for i in range(10)]
    other = [("spam-2", b"From: b@example.com\n\ntext %d" % i) for i in range(90)]
    made = mails.table(source(tmp_path, *same, *other))
    rows = zip(made["split"], made["text"], strict=True)
    assert len({split for split, text in rows if text == "same"}) == 1
    splits = list(made["split"])
    assert [splits.count(s) for s in ("train", "validation", "test")] == [60, 20, 20]


@pytest.mark.parametrize("names", [["easy-ham-1/../../secret.txt"], [], [7], "{}"])
def test_a_list_that_names_no_mails_is_refused(tmp_path: Path, names: object) -> None:
    source(tmp_path, ("spam-1", PLAIN))
    (tmp_path / "package/data/file_list.json").write_text(json.dumps(names))
    with pytest.raises(IntegrityError, match="fetch"):
        mails.table({mails.PACKAGE.name: tmp_path})


def test_a_mail_that_is_listed_and_missing_is_refused(tmp_path: Path) -> None:
    sources = source(tmp_path, ("spam-1", PLAIN))
    next((tmp_path / "package/data/spam-1").iterdir()).unlink()
    with pytest.raises(IntegrityError, match="cannot be read"):
        mails.table(sources)


@pytest.mark.slow
def test_the_whole_set() -> None:
    made = catalogue.fetched("spam-assassin").load()
    parts = list(made["part"])
    counts = {p: parts.count(p) for p in mails.PARTS}
    assert counts == dict(zip(mails.PARTS, (2500, 1400, 250, 500, 1396), strict=True))
    assert sum(made["label"]) == 1896
    assert len(set(made["subject"])) == 2557
    assert list(made["subject"]).count(mails.UNKNOWN) == 5
    split_of: dict[str, set[str]] = {}
    for text, split in zip(made["text"], made["split"], strict=True):
        split_of.setdefault(text, set()).add(split)
    assert all(len(found) == 1 for text, found in split_of.items() if text)
