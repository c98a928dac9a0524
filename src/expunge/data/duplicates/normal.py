"""Texts as they are compared: without case, accents, width forms, punctuation and extra space."""

import re
import unicodedata

UNSPACED = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uac00-\ud7af"
"""Kana, Han and Hangul: scripts whose words are not parted by spaces, or seldom."""
WORD = re.compile(f"[{UNSPACED}]|[^\\W_{UNSPACED}]+")
SPACE = re.compile(r"\s+")


def normalised(text: str) -> str:
    """The text in NFKC, case-folded, without accents, each run of white space one space.

    Unicode Standard Annex 15 (normalisation forms); case folding as in the Unicode Standard,
    section 3.13.
    """
    if not text.isascii():
        folded = unicodedata.normalize("NFKC", text).casefold()
        parted = unicodedata.normalize("NFKD", folded)
        bare = "".join(c for c in parted if not unicodedata.combining(c))
        text = unicodedata.normalize("NFKC", bare)
    return SPACE.sub(" ", text.casefold()).strip()


def words(text: str) -> list[str]:
    """The words of the normalised text, in order; of unspaced scripts, each character is one."""
    return WORD.findall(normalised(text))
