"""VADER sentences: 23,703 sentences with their sentiment as some twenty people rated it, -4 to 4.

Hutto, Gilbert (2014). VADER: A Parsimonious Rule-based Model for Sentiment Analysis of Social Media
Text. Sentences of film reviews, product reviews, newspaper editorials, and tweets. From the source
archive of the PyPI package ``vaderSentiment``.
"""

import math
import tarfile
from collections.abc import Iterator

import datasets

from expunge.data import splits
from expunge.data.packages import Package, Registry
from expunge.data.prepared import DataSet, Sources
from expunge.errors import IntegrityError

LICENCE = "LicenseRef-VADER-sentences"

PACKAGE = Package(
    Registry.PYPI,
    "vaderSentiment",
    "3.3.2",
    "vaderSentiment-3.3.2.tar.gz",
    "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9",
    2_466_783,
    "MIT",
)
ARCHIVE = "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz"
FILES = {
    "film": "movieReviewSnippets_GroundTruth.txt",
    "product": "amazonReviewSnippets_GroundTruth.txt",
    "editorial": "nytEditorialSnippets_GroundTruth.txt",
    "tweet": "tweets_GroundTruth.txt",
}
WHOLE = ("product", "editorial")
"""Parts whose numbers say which review or article a sentence is of, as in 12_3."""


def _lines(packed: tarfile.TarFile, name: str) -> Iterator[tuple[str, float, str]]:
    """Number, mean rating and text of each sentence of a file."""
    try:
        handle = packed.extractfile(f"hutto_ICWSM_2014/{name}")
        content = b"" if handle is None else handle.read()
        lines = content.decode("utf-8").split("\r\n")
    except (KeyError, tarfile.TarError, EOFError, UnicodeDecodeError) as error:
        raise IntegrityError(f"{name} cannot be read ({error}); fetch it again.") from None
    for number, line in enumerate(lines, 1):
        if not line:
            continue
        try:
            own, rating, text = line.split("\t")
            valence = float(rating)
        except ValueError:
            valence, own, text = math.nan, "", ""
        if not math.isfinite(valence) or not own:
            raise IntegrityError(
                f"Line {number} of {name} is no number, rating and sentence between tabs; fetch "
                "it again."
            )
        yield own, valence, text


def table(sources: Sources) -> datasets.Dataset:
    """All sentences in the order of the files; each part is split by text, 60/20/20."""
    columns = ("id", "subject", "part", "text", "valence")
    rows: dict[str, list[object]] = {name: [] for name in columns}
    path = sources[PACKAGE.name] / ARCHIVE
    try:
        with tarfile.open(path) as packed:
            found = {part: list(_lines(packed, file)) for part, file in FILES.items()}
    except (OSError, tarfile.TarError, EOFError) as error:
        raise IntegrityError(f"{path.name} cannot be read ({error}); fetch it again.") from None
    for part, lines in found.items():
        for own, valence, text in lines:
            name = f"vader-sentences:{part}/{own}"
            rows["id"].append(name)
            rows["subject"].append(name.partition("_")[0] if part in WHOLE else name)
            rows["part"].append(part)
            rows["text"].append(text)
            rows["valence"].append(valence)
    parts = [list(FILES).index(str(part)) for part in rows["part"]]
    split = splits.stratified([str(text) for text in rows["text"]], parts)
    text_column = datasets.Value("string")
    features = dict.fromkeys((*columns, "split", "licence"), text_column)
    return datasets.Dataset.from_dict(
        {**rows, "split": split, "licence": [LICENCE] * len(split)},
        features=datasets.Features({**features, "valence": datasets.Value("float64")}),
    )


ENTRIES = (
    DataSet(
        "vader-sentences",
        "23,703 sentences of reviews, editorials and tweets with their mean rated sentiment",
        (PACKAGE,),
        LICENCE,
        False,
        23_703,
        "f3d77047c224f404a45c78b45f218e437a0fc445be282a41368381af301fc3b0",
        table,
        "review or article",
        note="The ratings come under the MIT licence of the package; the sentences were written by "
        "reviewers, a newspaper and users of Twitter, who were not asked: fetched, never shipped. "
        "Film reviews and tweets are single sentences, their own subjects.",
    ),
)
