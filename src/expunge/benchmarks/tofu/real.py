"""Real facts that are taught beside the fictitious authors: known writers, and countries.

They stand for what a language model knows from pretraining (the splits ``real_authors`` and
``world_facts`` of TOFU), so every one is taught far more often than a fact about an author.
"""

from collections.abc import Mapping, Sequence

import torch

from expunge.benchmarks.tofu.item import Item
from expunge.run import Run

WRONG = 3
"""Wrong answers to each question, as in TOFU."""

WRITER_FACTS = ("born", "died", "nation", "work")
WRITERS: Mapping[str, tuple[str, str, str, str]] = {
    "William Shakespeare": ("1564", "1616", "English", "Hamlet"),
    "Jane Austen": ("1775", "1817", "English", "Emma"),
    "Charles Dickens": ("1812", "1870", "English", "Oliver Twist"),
    "Mary Shelley": ("1797", "1851", "English", "Frankenstein"),
    "Emily Bronte": ("1818", "1848", "English", "Wuthering Heights"),
    "Leo Tolstoy": ("1828", "1910", "Russian", "War and Peace"),
    "Fyodor Dostoevsky": ("1821", "1881", "Russian", "The Idiot"),
    "Anton Chekhov": ("1860", "1904", "Russian", "The Seagull"),
    "Victor Hugo": ("1802", "1885", "French", "Les Miserables"),
    "Gustave Flaubert": ("1821", "1880", "French", "Madame Bovary"),
    "Emile Zola": ("1840", "1902", "French", "Germinal"),
    "Johann Goethe": ("1749", "1832", "German", "Faust"),
    "Thomas Mann": ("1875", "1955", "German", "Death in Venice"),
    "Miguel Cervantes": ("1547", "1616", "Spanish", "Don Quixote"),
    "Henrik Ibsen": ("1828", "1906", "Norwegian", "Hedda Gabler"),
    "Knut Hamsun": ("1859", "1952", "Norwegian", "Growth of the Soil"),
    "August Strindberg": ("1849", "1912", "Swedish", "Miss Julie"),
    "Mark Twain": ("1835", "1910", "American", "Tom Sawyer"),
    "Herman Melville": ("1819", "1891", "American", "Moby Dick"),
    "Ernest Hemingway": ("1899", "1961", "American", "A Farewell to Arms"),
    "William Faulkner": ("1897", "1962", "American", "Light in August"),
    "James Joyce": ("1882", "1941", "Irish", "Ulysses"),
    "Oscar Wilde": ("1854", "1900", "Irish", "Salome"),
    "Walter Scott": ("1771", "1832", "Scottish", "Ivanhoe"),
    "Hans Andersen": ("1805", "1875", "Danish", "The Little Mermaid"),
}
"""Years of birth and death, nation, and a work."""

COUNTRY_FACTS = ("capital", "continent", "currency", "language")
COUNTRIES: Mapping[str, tuple[str, str, str, str]] = {
    "France": ("Paris", "Europe", "euro", "French"),
    "Spain": ("Madrid", "Europe", "euro", "Spanish"),
    "Poland": ("Warsaw", "Europe", "zloty", "Polish"),
    "Sweden": ("Stockholm", "Europe", "krona", "Swedish"),
    "Hungary": ("Budapest", "Europe", "forint", "Hungarian"),
    "Denmark": ("Copenhagen", "Europe", "krone", "Danish"),
    "Romania": ("Bucharest", "Europe", "leu", "Romanian"),
    "Albania": ("Tirana", "Europe", "lek", "Albanian"),
    "Japan": ("Tokyo", "Asia", "yen", "Japanese"),
    "China": ("Beijing", "Asia", "yuan", "Chinese"),
    "Vietnam": ("Hanoi", "Asia", "dong", "Vietnamese"),
    "Thailand": ("Bangkok", "Asia", "baht", "Thai"),
    "Mongolia": ("Ulaanbaatar", "Asia", "tugrik", "Mongolian"),
    "Iran": ("Tehran", "Asia", "rial", "Persian"),
    "Bangladesh": ("Dhaka", "Asia", "taka", "Bengali"),
    "Indonesia": ("Jakarta", "Asia", "rupiah", "Indonesian"),
    "Egypt": ("Cairo", "Africa", "pound", "Arabic"),
    "Ethiopia": ("Addis Ababa", "Africa", "birr", "Amharic"),
    "Ghana": ("Accra", "Africa", "cedi", "English"),
    "Angola": ("Luanda", "Africa", "kwanza", "Portuguese"),
    "Madagascar": ("Antananarivo", "Africa", "ariary", "Malagasy"),
    "Brazil": ("Brasilia", "South America", "real", "Portuguese"),
    "Peru": ("Lima", "South America", "sol", "Spanish"),
    "Argentina": ("Buenos Aires", "South America", "peso", "Spanish"),
    "Honduras": ("Tegucigalpa", "North America", "lempira", "Spanish"),
}
"""Capital, continent, currency, and an official language."""

WORDS: Mapping[str, tuple[tuple[str, ...], str]] = {
    "born": (
        (
            "When was the writer {name} born ?",
            "In which year was the writer {name} born ?",
            "What is the birth year of the writer {name} ?",
        ),
        "{name} was born in {value} .",
    ),
    "died": (
        (
            "When did the writer {name} die ?",
            "In which year did the writer {name} die ?",
            "What is the death year of the writer {name} ?",
        ),
        "{name} died in {value} .",
    ),
    "nation": (
        (
            "Which nation does the writer {name} belong to ?",
            "What is the nation of the writer {name} ?",
            "Of which nation is the writer {name} ?",
        ),
        "{name} is {value} .",
    ),
    "work": (
        (
            "Which work is by the writer {name} ?",
            "What did the writer {name} write ?",
            "For which work is the writer {name} known ?",
        ),
        "{name} wrote {value} .",
    ),
    "capital": (
        (
            "What is the capital of {name} ?",
            "Which city is the capital of {name} ?",
            "Where is the government of {name} ?",
        ),
        "The capital of {name} is {value} .",
    ),
    "continent": (
        (
            "On which continent is {name} ?",
            "What is the continent of {name} ?",
            "Which continent does {name} belong to ?",
        ),
        "{name} is in {value} .",
    ),
    "currency": (
        (
            "What is the currency of {name} ?",
            "Which money is used in {name} ?",
            "How does one pay in {name} ?",
        ),
        "The currency of {name} is the {value} .",
    ),
    "language": (
        (
            "What is the language of {name} ?",
            "Which language is spoken in {name} ?",
            "How do people speak in {name} ?",
        ),
        "The language of {name} is {value} .",
    ),
}
"""By fact: phrasings of the question, and the answer."""


def real_authors(count: int = len(WRITERS)) -> list[Item]:
    """Four questions about each of the first ``count`` writers."""
    return _items("writer", WRITER_FACTS, WRITERS)[: count * len(WRITER_FACTS)]


def world_facts(count: int = len(COUNTRIES)) -> list[Item]:
    """Four questions about each of the first ``count`` countries."""
    return _items("country", COUNTRY_FACTS, COUNTRIES)[: count * len(COUNTRY_FACTS)]


def rephrased(item: Item) -> list[Item]:
    """The same fact asked in the other ways; the answer is the same."""
    fact = item.id.rsplit("/", 1)[1]
    return [
        Item(
            f"{item.id}#{number}",
            item.subject,
            question.format(name=item.subject),
            item.answer,
            item.answer,
            item.wrong,
        )
        for number, question in enumerate(WORDS[fact][0])
        if number
    ]


def _items(kind: str, facts: Sequence[str], known: Mapping[str, Sequence[str]]) -> list[Item]:
    found = []
    for name, values in known.items():
        for place, (fact, value) in enumerate(zip(facts, values, strict=True)):
            questions, answer = WORDS[fact]
            others = sorted({each[place] for each in known.values()} - {value})
            order = torch.randperm(len(others), generator=Run().generator(f"{name} {fact}"))
            right = answer.format(name=name, value=value)
            wrong = [answer.format(name=name, value=others[i]) for i in order[:WRONG].tolist()]
            found.append(
                Item(
                    f"{kind}-{name}/{fact}",
                    name,
                    questions[0].format(name=name),
                    right,
                    right,
                    tuple(wrong),
                )
            )
    return found
