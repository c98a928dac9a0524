"""Asterisk prompts: the same telephone phrases, digits and letters by four speakers, 8 kHz.

Allison Smith, June Wallack, Carlo Flora and ivrvoice.ru (2003-2012), for the Asterisk project. From
the Debian packages ``asterisk-core-sounds-LANGUAGE-wav``.
"""

import wave
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import datasets
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from expunge.data.packages import Package, Registry
from expunge.data.prepared import DataSet, Sources, split_by_id
from expunge.errors import IntegrityError

RATE = 8_000  # samples a second
SOUNDS = "usr/share/asterisk/sounds"
TONES = {"ascending-2tone", "descending-2tone", "beep", "beeperr", "tt-monkeys"}
SHARE_ALIKE, ATTRIBUTION = "CC-BY-SA-3.0", "CC-BY-3.0"


@dataclass(frozen=True)
class Voice:
    """The prompts of one language: their folder, who speaks, and whom the licence asks to name."""

    folder: str
    speaker: str
    licence: str
    attribution: str
    sha256: str
    size: int


VOICES: Mapping[str, Voice] = {
    "en": Voice(
        "en_US_f_Allison",
        "Allison Smith",
        SHARE_ALIKE,
        "Copyright 2003-2010 Allison Smith, www.theivrvoice.com; financed by Digium, Inc.",
        "2be3ea287d83299d143815fa804f11179a75b7affd4a758b98b55f5afc18a35d",
        18_272_864,
    ),
    "es": Voice(
        "es_MX_f_Allison",
        "Allison Smith",
        SHARE_ALIKE,
        "Copyright 2003-2010 Allison Smith, www.theivrvoice.com; financed by Digium, Inc.",
        "9283a09a6d56fccdcc2bcfe86c48f0f844289cfbd46a3184d8785a6f7f569903",
        23_767_256,
    ),
    "fr": Voice(
        "fr_CA_f_June",
        "June Wallack",
        SHARE_ALIKE,
        "Copyright 2006-2008 June Wallack, www.junewallack.com; translated by Clod Patry, "
        "Kristopher Lalletti and June Wallack; financed by Digium, Unlimitel, BGM Informatique.",
        "8d4e1bc32ed5ba7fbda40841ca1825ed20cc6232724a473c90f8bb0e53e6073e",
        18_516_060,
    ),
    "it": Voice(
        "it_IT_m_Carlo",
        "Carlo Flora",
        ATTRIBUTION,
        "Copyright 2012 Carlo Flora, www.carloflora.com, www.segreterietelefoniche.it; translated "
        "by Silvia Petrin.",
        "5a26638089e134b8ac39363fe249c5c93c50cd8bfdc9b2499ae61ec4a35e2fcb",
        18_262_124,
    ),
    "ru": Voice(
        "ru_RU_f_IvrvoiceRU",
        "ivrvoice.ru",
        ATTRIBUTION,
        "Copyright 2010 Maxim Topal, www.ivrvoice.ru.",
        "ccbfaebfa450b7a9ddf644ae0f3d1e9017d5df7c0aebe816e946345589d38201",
        18_788_860,
    ),
}
SPEAKERS = tuple(sorted({voice.speaker for voice in VOICES.values()}))

PACKAGES: Mapping[str, Package] = {
    language: Package(
        Registry.DEBIAN,
        f"asterisk-core-sounds-{language}-wav",
        "1.6.1-1",
        f"asterisk-core-sounds-{language}-wav_1.6.1-1_all.deb",
        voice.sha256,
        voice.size,
        voice.licence,
    )
    for language, voice in VOICES.items()
}


@dataclass(frozen=True)
class Clip:
    """One recording."""

    language: str
    prompt: str
    samples: npt.NDArray[np.int16]


def _clips(language: str, root: Path) -> Iterator[Clip]:
    folder = root / SOUNDS / VOICES[language].folder
    paths = sorted(folder.rglob("*.wav"))
    if not paths:
        raise IntegrityError(f"There are no recordings in {folder.name}; fetch the package again.")
    for path in paths:
        name = path.relative_to(folder).with_suffix("").as_posix()
        try:
            with wave.open(str(path)) as stored:
                layout = stored.getframerate(), stored.getsampwidth(), stored.getnchannels()
                frames = stored.readframes(stored.getnframes())
        except (wave.Error, EOFError, OSError) as error:
            raise IntegrityError(
                f"The {language} recording {name} cannot be read ({error}); fetch the package "
                "again."
            ) from None
        if layout != (RATE, 2, 1):
            raise IntegrityError(
                f"The {language} recording {name} has {layout} as rate, bytes and channels, and "
                f"({RATE}, 2, 1) are expected; fetch the package again."
            )
        yield Clip(language, name, np.frombuffer(frames, "<i2"))


def _spoken(clip: Clip) -> bool:
    """Whether somebody speaks: not in pauses, tones and a clip that the source left empty."""
    pause = clip.prompt.startswith("silence/") or not clip.samples.any()
    return not pause and clip.prompt not in TONES


def table(sources: Sources) -> datasets.Dataset:
    """All clips by language and prompt; a prompt is in the same split in every language.

    The prompts of each folder (digits, letters, phonetic alphabet, phrases ...) are split 60/20/20.
    """
    clips = [
        clip
        for language, package in PACKAGES.items()
        for clip in _clips(language, sources[package.name])
        if _spoken(clip)
    ]
    prompts = sorted({clip.prompt for clip in clips})
    folders = [prompt.rpartition("/")[0] for prompt in prompts]
    kinds = sorted(set(folders))
    split = dict(zip(prompts, split_by_id(prompts, [kinds.index(f) for f in folders]), strict=True))
    voices = [VOICES[clip.language] for clip in clips]
    text = datasets.Value("string")
    rows = {
        "id": [f"asterisk-voices:{clip.language}/{clip.prompt}" for clip in clips],
        "subject": [voice.speaker for voice in voices],
        "label": [SPEAKERS.index(voice.speaker) for voice in voices],
        "language": [clip.language for clip in clips],
        "prompt": [clip.prompt for clip in clips],
        "split": [split[clip.prompt] for clip in clips],
        "licence": [voice.licence for voice in voices],
        "attribution": [voice.attribution for voice in voices],
        "audio": _lists([clip.samples for clip in clips]),
        "sampling_rate": [RATE] * len(clips),
    }
    features = {
        **dict.fromkeys(rows, text),
        "label": datasets.ClassLabel(names=list(SPEAKERS)),
        "audio": datasets.List(datasets.Value("int16")),
        "sampling_rate": datasets.Value("int64"),
    }
    schema = datasets.Features(features).arrow_schema
    return datasets.Dataset(datasets.table.InMemoryTable(pa.table(rows, schema=schema)))


def _lists(arrays: list[npt.NDArray[np.int16]]) -> pa.ListArray:
    """Clips as one Arrow array: a table made from Python lists would take thirty times the room."""
    ends = np.cumsum([0, *(len(array) for array in arrays)], dtype=np.int32)
    return pa.ListArray.from_arrays(pa.array(ends), pa.array(np.concatenate(arrays)))


ENTRIES = (
    DataSet(
        "asterisk-voices",
        "2,755 telephone prompts of four speakers in five languages, 8 kHz, 16 bit",
        tuple(PACKAGES.values()),
        f"{SHARE_ALIKE} AND {ATTRIBUTION}",
        False,
        2_755,
        "72f5ec878460ef9561c3862162b68825355ad65403e43ea955f64e43361a9fcf",
        table,
        "speaker",
        note="English, Spanish and French are CC-BY-SA-3.0, Italian and Russian CC-BY-3.0: "
        "fetched, never shipped; whom to name stands in the column attribution. Allison Smith "
        "speaks English and Spanish; the Russian speaker is a woman whom the source does not name. "
        "Pauses and tones are left out.",
    ),
)
