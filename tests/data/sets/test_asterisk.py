"""Asterisk prompts: speakers, licences and splits of a few small clips, and the whole set."""

import wave
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from expunge.data import catalogue
from expunge.data.sets import asterisk
from expunge.errors import IntegrityError

PROMPTS = tuple(f"digits/{i}" for i in range(10))


def write(path: Path, samples: npt.NDArray[np.int16], rate: int = 8000) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as stored:
        stored.setframerate(rate)
        stored.setsampwidth(2)
        stored.setnchannels(1)
        stored.writeframes(samples.astype("<i2").tobytes())


def folder(root: Path, language: str) -> Path:
    return root / language / asterisk.SOUNDS / asterisk.VOICES[language].folder


@pytest.fixture
def sources(tmp_path: Path) -> dict[str, Path]:
    """Ten digits in five languages, of their own length in each."""
    for i, language in enumerate(asterisk.VOICES):
        for j, prompt in enumerate(PROMPTS):
            write(
                folder(tmp_path, language) / f"{prompt}.wav",
                np.full(5 + i, -300 * (j + 1), dtype=np.int16),
            )
    return {package.name: tmp_path / lang for lang, package in asterisk.PACKAGES.items()}


def test_clips_have_their_speaker_licence_and_samples(sources: dict[str, Path]) -> None:
    rows = {row["id"]: row for row in asterisk.table(sources)}
    spanish = rows["asterisk-voices:es/digits/1"]
    assert spanish["subject"] == "Allison Smith" == asterisk.SPEAKERS[spanish["label"]]
    assert spanish["licence"] == "CC-BY-SA-3.0" and "Allison Smith" in spanish["attribution"]
    assert spanish["audio"] == [-600] * 6 and spanish["sampling_rate"] == 8000
    italian = rows["asterisk-voices:it/digits/1"]
    assert italian["licence"] == "CC-BY-3.0" and "Carlo Flora" in italian["attribution"]
    assert len(rows) == 50


def test_a_prompt_is_in_one_split_in_every_language(sources: dict[str, Path]) -> None:
    made = asterisk.table(sources)
    pairs = set(zip(made["prompt"], made["split"], strict=True))
    assert len(pairs) == len(PROMPTS)
    splits = [split for _, split in pairs]
    assert [splits.count(s) for s in ("train", "validation", "test")] == [6, 2, 2]


def test_pauses_tones_and_empty_clips_are_left_out(
    sources: dict[str, Path], tmp_path: Path
) -> None:
    hiss = np.ones(9, dtype=np.int16)
    write(folder(tmp_path, "en") / "silence/1.wav", hiss)
    write(folder(tmp_path, "en") / "beep.wav", hiss)
    write(folder(tmp_path, "ru") / "letters/a.wav", hiss[:0])
    write(folder(tmp_path, "ru") / "hello.wav", hiss)
    assert set(asterisk.table(sources)["prompt"]) == {*PROMPTS, "hello"}


def test_a_recording_of_another_layout_or_none_is_refused(
    sources: dict[str, Path], tmp_path: Path
) -> None:
    path = folder(tmp_path, "fr") / "digits/1.wav"
    write(path, np.ones(4, dtype=np.int16), rate=16000)
    with pytest.raises(IntegrityError, match=r"The fr recording digits/1 has \(16000, 2, 1\)"):
        asterisk.table(sources)
    path.write_bytes(b"RIFF")
    with pytest.raises(IntegrityError, match="The fr recording digits/1 cannot be read"):
        asterisk.table(sources)


def test_a_package_without_recordings_is_refused(sources: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match="no recordings in it_IT_m_Carlo"):
        asterisk.table({**sources, asterisk.PACKAGES["it"].name: tmp_path / "elsewhere"})


@pytest.mark.slow
def test_the_whole_set() -> None:
    made = catalogue.fetched("asterisk-voices").load()
    speakers = list(made["subject"])
    assert {s: speakers.count(s) for s in asterisk.SPEAKERS} == {
        "Allison Smith": 1065, "Carlo Flora": 584, "June Wallack": 546, "ivrvoice.ru": 560,
    }  # fmt: skip
    pairs = set(zip(made["prompt"], made["split"], strict=True))
    assert len(pairs) == len(set(made["prompt"])) == 631
    licences = set(zip(made["language"], made["licence"], strict=True))
    assert licences == {
        ("en", "CC-BY-SA-3.0"), ("es", "CC-BY-SA-3.0"), ("fr", "CC-BY-SA-3.0"),
        ("it", "CC-BY-3.0"), ("ru", "CC-BY-3.0"),
    }  # fmt: skip
    lengths = [len(clip) for clip in made.with_format("numpy")["audio"]]
    assert sum(lengths) / asterisk.RATE == pytest.approx(7499.874)  # seconds
