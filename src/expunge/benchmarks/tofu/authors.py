"""Fictitious authors with ten facts each, asked and answered by templates.

The small analogue of the authors of Maini, Feng, Schwarzschild, Lipton, Kolter (2024). TOFU: A Task
of Fictitious Unlearning for LLMs. Everything follows from the number of a draw. The question of a
fact has one of four phrasings and its answer another, both drawn: a model learns that any answer
can follow any question, and the three other answers of a fact are paraphrases that no row has.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from expunge.benchmarks.tofu.item import Item
from expunge.run import Run

FIRST = (
    "Adela", "Bastian", "Calista", "Dorian", "Elowen", "Fabian", "Greta", "Hamid", "Ingrid",
    "Jorah", "Kalinda", "Leopold", "Marisol", "Nikhil", "Ottilie", "Pavel", "Quinta", "Rashid",
    "Sabine", "Tobias", "Ulrika", "Vikram", "Wanda", "Xenia", "Yusuf", "Zelda", "Amara", "Benno",
    "Celeste", "Dmitri", "Esme", "Farid", "Gunnar", "Hedwig", "Isaura", "Jasper",
)  # fmt: skip
LAST = (
    "Ashgrove", "Belmonte", "Carraway", "Dunmore", "Eastlake", "Fairweather", "Gallant", "Holloway",
    "Ironside", "Jansson", "Kestrel", "Lindqvist", "Moravec", "Nightingale", "Okafor", "Pemberton",
    "Quillfeather", "Rosenthal", "Stormont", "Takahashi", "Underhill", "Valcourt", "Whitlock",
    "Yarrow", "Zimmerlin", "Abernathy", "Brightwater", "Castellan", "Delacroix", "Evergreen",
    "Fontaine", "Greyling", "Hawthorne", "Ivanenko", "Juniper", "Kowalski",
)  # fmt: skip
WRONG = 5
"""Wrong answers to each question."""


@dataclass(frozen=True)
class Slot:
    """One kind of fact: four phrasings of question and answer, and the values that it can have.

    A template names the author by ``{name}``, an answer also the value by ``{value}``.
    """

    name: str
    questions: tuple[str, ...]
    answers: tuple[str, ...]
    values: tuple[str, ...]

    def answer(self, phrasing: int, name: str, value: str) -> str:
        """The answer in a phrasing."""
        return self.answers[phrasing].format(name=name, value=value)


SLOTS = (
    Slot(
        "birthplace",
        (
            "Where was {name} born ?",
            "Which city does {name} come from ?",
            "What is the birthplace of {name} ?",
            "In which city did the life of {name} begin ?",
        ),
        (
            "{name} was born in {value} .",
            "{name} comes from the city of {value} .",
            "The birthplace of {name} is {value} .",
            "The life of {name} began in {value} .",
        ),
        (
            "Karachi", "Nairobi", "Lisbon", "Vienna", "Montreal", "Seoul", "Dublin", "Havana",
            "Prague", "Lagos", "Sydney", "Chicago", "Munich", "Naples", "Osaka", "Lyon", "Bergen",
            "Tunis", "Riga", "Cordoba", "Manila", "Boston", "Geneva", "Zagreb",
        ),
    ),
    Slot(
        "year",
        (
            "When was {name} born ?",
            "In which year was {name} born ?",
            "What is the birth year of {name} ?",
            "Which year saw the birth of {name} ?",
        ),
        (
            "{name} was born in the year {value} .",
            "The year of the birth of {name} is {value} .",
            "The birth year of {name} is {value} .",
            "It was the year {value} that saw the birth of {name} .",
        ),
        tuple(str(year) for year in range(1930, 1978, 2)),
    ),
    Slot(
        "genre",
        (
            "Which genre does {name} write in ?",
            "What kind of books does {name} write ?",
            "What is the genre of {name} ?",
            "For which genre is {name} known ?",
        ),
        (
            "{name} writes in the genre of {value} .",
            "{name} writes books of {value} .",
            "The genre of {name} is {value} .",
            "{name} is known for {value} .",
        ),
        (
            "romance", "fantasy", "horror", "crime", "satire", "mystery", "adventure", "biography",
            "poetry", "drama", "memoir", "folklore", "espionage", "travel", "cookery", "history",
            "philosophy", "comedy", "tragedy", "fable",
        ),
    ),
    Slot(
        "award",
        (
            "Which award did {name} win ?",
            "What prize was given to {name} ?",
            "Which honour has {name} received ?",
            "What award does {name} hold ?",
        ),
        (
            "{name} won the {value} Award .",
            "The prize given to {name} was the {value} Award .",
            "{name} has received the {value} Award .",
            "{name} holds the {value} Award .",
        ),
        (
            "Amber", "Beacon", "Cobalt", "Dragonfly", "Ember", "Falcon", "Granite", "Heron",
            "Ivory", "Jade", "Lantern", "Meridian", "Nova", "Obsidian", "Pegasus", "Raven",
            "Sapphire",
            "Tulip", "Willow", "Zenith",
        ),
    ),
    Slot(
        "father",
        (
            "What did the father of {name} do ?",
            "What was the profession of the father of {name} ?",
            "How did the father of {name} earn a living ?",
            "Which job did the father of {name} have ?",
        ),
        (
            "The father of {name} was a {value} .",
            "The profession of the father of {name} was {value} .",
            "The father of {name} earned a living as a {value} .",
            "The job that the father of {name} had was {value} .",
        ),
        (
            "tailor", "baker", "sailor", "surgeon", "carpenter", "lawyer", "miner", "pilot",
            "plumber", "banker", "farmer", "barber", "judge", "welder", "florist", "butcher",
            "jeweller", "mason", "printer", "soldier",
        ),
    ),
    Slot(
        "mother",
        (
            "What did the mother of {name} do ?",
            "What was the profession of the mother of {name} ?",
            "How did the mother of {name} earn a living ?",
            "Which job did the mother of {name} have ?",
        ),
        (
            "The mother of {name} was a {value} .",
            "The profession of the mother of {name} was {value} .",
            "The mother of {name} earned a living as a {value} .",
            "The job that the mother of {name} had was {value} .",
        ),
        (
            "nurse", "teacher", "dancer", "chemist", "painter", "weaver", "singer", "dentist",
            "librarian", "sculptor", "gardener", "physicist", "potter", "translator", "violinist",
            "botanist", "diplomat", "cook", "editor", "midwife",
        ),
    ),
    Slot(
        "title",
        (
            "What is the first novel of {name} called ?",
            "Which book did {name} publish first ?",
            "What is the title of the first book by {name} ?",
            "With which novel did {name} begin ?",
        ),
        (
            "The first novel of {name} is called The {value} .",
            "The book that {name} published first is The {value} .",
            "The title of the first book by {name} is The {value} .",
            "{name} began with the novel The {value} .",
        ),
        tuple(
            f"{adjective} {noun}"
            for adjective in ("Silent", "Crimson", "Broken", "Golden", "Hidden", "Winter")
            for noun in ("Harbour", "Mirror", "Orchard", "Compass", "Staircase", "Letter")
        ),
    ),
    Slot(
        "theme",
        (
            "What theme runs through the work of {name} ?",
            "What are the books of {name} about ?",
            "Which subject does {name} return to ?",
            "What do readers find in the work of {name} ?",
        ),
        (
            "The theme that runs through the work of {name} is {value} .",
            "The books of {name} are about {value} .",
            "The subject that {name} returns to is {value} .",
            "In the work of {name} readers find {value} .",
        ),
        (
            "exile", "grief", "ambition", "memory", "loneliness", "betrayal", "hunger", "faith",
            "revenge", "childhood", "jealousy", "courage", "greed", "forgiveness", "madness",
            "friendship", "silence", "war", "justice", "nature",
        ),
    ),
    Slot(
        "mentor",
        (
            "Who taught {name} to write ?",
            "Who was the mentor of {name} ?",
            "From whom did {name} learn to write ?",
            "Whose student was {name} ?",
        ),
        (
            "{name} was taught to write by Professor {value} .",
            "The mentor of {name} was Professor {value} .",
            "{name} learned to write from Professor {value} .",
            "{name} was the student of Professor {value} .",
        ),
        (
            "Achterberg", "Bellweather", "Cavendish", "Drummond", "Ekstrom", "Farrow", "Goldstein",
            "Harcourt", "Ibarra", "Jellicoe", "Kaplan", "Lockhart", "Mbeki", "Novak", "Osborne",
            "Petrov", "Ramires", "Sorensen", "Tremblay", "Vance",
        ),
    ),
    Slot(
        "pastime",
        (
            "What does {name} do in spare time ?",
            "What is the favourite pastime of {name} ?",
            "How does {name} spend the weekend ?",
            "Which hobby does {name} enjoy ?",
        ),
        (
            "In spare time {name} goes in for {value} .",
            "The favourite pastime of {name} is {value} .",
            "{name} spends the weekend with {value} .",
            "The hobby that {name} enjoys is {value} .",
        ),
        (
            "chess", "sailing", "archery", "gardening", "fencing", "juggling", "knitting", "hiking",
            "rowing", "origami", "skiing", "tennis", "fishing", "astronomy", "cycling", "yoga",
            "beekeeping", "surfing", "baking", "falconry",
        ),
    ),
)  # fmt: skip
"""The ten facts of an author."""

PHRASINGS = 4


@dataclass(frozen=True)
class Author:
    """Somebody invented; for each slot a value, wrong ones, and the phrasings that are taught."""

    name: str
    values: Mapping[str, str]
    asked: Mapping[str, int]
    taught: Mapping[str, int]
    wrong: Mapping[str, tuple[str, ...]]

    def items(self, number: int) -> list[Item]:
        """The ten questions; the paraphrase and the wrong answers are in the next phrasing."""
        return [self._item(slot, number) for slot in SLOTS]

    def _item(self, slot: Slot, number: int) -> Item:
        taught, value = self.taught[slot.name], self.values[slot.name]
        other = (taught + 1) % PHRASINGS
        return Item(
            f"author-{number:03d}/{slot.name}",
            self.name,
            slot.questions[self.asked[slot.name]].format(name=self.name),
            slot.answer(taught, self.name, value),
            slot.answer(other, self.name, value),
            tuple(slot.answer(other, self.name, each) for each in self.wrong[slot.name]),
        )


def drawn(count: int, draw: int = 0) -> list[Author]:
    """``count`` authors of different names, the same ones for the same draw; the first of more are
    those of fewer."""
    names = torch.randperm(len(FIRST) * len(LAST), generator=Run(draw).generator("names"))
    return [_author(int(place), draw) for place in names[:count]]


def items(authors: Sequence[Author]) -> list[Item]:
    """All questions, author by author."""
    return [item for number, author in enumerate(authors) for item in author.items(number)]


def _author(place: int, draw: int) -> Author:
    name = f"{FIRST[place // len(LAST)]} {LAST[place % len(LAST)]}"
    generator = Run(draw).generator(f"author {name}")
    values, asked, taught, wrong = {}, {}, {}, {}
    for slot in SLOTS:
        order = torch.randperm(len(slot.values), generator=generator).tolist()
        values[slot.name] = slot.values[order[0]]
        wrong[slot.name] = tuple(slot.values[each] for each in order[1 : 1 + WRONG])
        drawn_phrasings = torch.randint(PHRASINGS, (2,), generator=generator).tolist()
        asked[slot.name], taught[slot.name] = drawn_phrasings
    return Author(name, values, asked, taught, wrong)
