"""``expunge init``: write a commented run file, filled in with what a model and a table show.

Every guess has a comment. What cannot be known is written as a placeholder, with a comment that
says what to put there.
"""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import datasets
import typer
import yaml

from expunge.cli.output import console, writable
from expunge.data.guessing import Guess, guessed, guessed_lines
from expunge.data.own import SHIPPED, opened_tables
from expunge.errors import ExpungeError
from expunge.families.diffusion_folder import is_diffusion_folder
from expunge.models.checkpoint import Checkpoint
from expunge.run_file.keys import RunFile, schema_text
from expunge.storage import write_bytes

BUILDER, WEIGHTS = "my_model:build", "model.safetensors"
TRAIN, TEST = "train.csv", "test.csv"
VALIDATION = ("validation", "valid", "dev")
HELD_OUT = ("test", *VALIDATION)
"""Names of splits that are measured on, the first that is there; another one is for tuning."""


@dataclass(frozen=True)
class Part:
    """One table of the run file: where it is, which of its rows, and what is to be done still."""

    source: str
    split: str | None = None
    open: str = ""


@dataclass(frozen=True)
class Found:
    """What was looked at: the training table with the guess of its columns, and all parts."""

    train: Part
    test: Part
    validation: Part | None = None
    table: datasets.Dataset | None = None
    guess: Guess | None = None


def init(
    path: Annotated[Path, typer.Argument(help="The run file to write.")] = Path("run.yaml"),
    model: Annotated[
        Path | None, typer.Option(help="A Hugging Face folder with the model to change.")
    ] = None,
    train: Annotated[
        str | None, typer.Option(help="The table that the model was trained on, or a set's name.")
    ] = None,
    test: Annotated[
        str | None, typer.Option(help="Held-out rows; without it, a split of the training table.")
    ] = None,
    schema: Annotated[
        Path | None,
        typer.Option(help="Write the JSON Schema of run files there too, for editors."),
    ] = None,
) -> None:
    """Write a commented run file; nothing is overwritten."""
    for place, what in ((path, "The run file"), (schema, "The file of --schema,")):
        if place is not None and place.exists():
            raise ExpungeError(f"{place} exists; name another file, or remove it.")
        if place is not None:
            writable(place, what)
    datasets.disable_progress_bars()
    if model is not None and is_diffusion_folder(model):
        raise ExpungeError(
            f"{model} is a text-to-image model, for which no run file is guessed; start from "
            "`examples/canvas_words.yaml`, with `model: {checkpoint: FOLDER}` and "
            "`columns.caption`."
        )
    checkpoint = None if model is None else Checkpoint.open(model)
    found = _found(path, train, test, checkpoint)
    text = "\n".join(
        [
            *_head(path, schema),
            *_model(path, model, checkpoint, found),
            *_data(found, checkpoint),
            *_requests(found),
            *_rest(checkpoint),
        ]
    )
    RunFile.model_validate(yaml.safe_load(text))  # what is written can be read
    write_bytes(path, (text + "\n").encode())
    console.print(f"Written to {path}", soft_wrap=True)
    if schema is not None:
        write_bytes(schema, schema_text().encode())
        console.print(f"Schema: {schema}", soft_wrap=True)
    _say_next(path, model, found)


def _say_next(path: Path, model: Path | None, found: Found) -> None:
    """What is still to be filled in, or the next command."""
    guess = found.guess
    missing = [part.open for part in (found.train, found.test) if part.open]
    if model is None and guess is not None and guess.answer == "answer":
        missing.append("the model: `checkpoint`")
    elif model is None and found.train.source not in SHIPPED:
        missing.append("the model: `builder`, `weights` and `family`, or `checkpoint`")
    if guess is not None and guess.answer != "answer" and None in (guess.label, guess.input):
        missing.append(f"the column of the {guess.answer} or of the input")
    for what in missing:
        console.print(f"To fill in: {what}", soft_wrap=True)
    console.print(f"Read the comments, correct what is guessed, then: expunge plan {path}")


def _found(path: Path, train: str | None, test: str | None, checkpoint: Checkpoint | None) -> Found:
    if train is None:
        if test is not None:
            raise ExpungeError("--test was given without --train; give the training table, too.")
        if checkpoint is None:
            train_rows, test_rows, validation = (
                Part("digits", name) for name in ("train", "test", "validation")
            )
            return Found(train_rows, test_rows, validation)
        return Found(
            Part(TRAIN, open="the training table"), Part(TEST, open="the table of held-out rows")
        )
    tables = opened_tables(train)
    first = "train" if "train" in tables else next(iter(tables))
    table = tables[first]
    if len(table) == 0:
        raise ExpungeError(f"The table {train} has no row; at least one is expected.")
    guess = _guessed(table, checkpoint)
    splits = guess.splits or tuple(str(name) for name in tables if name is not None)
    return Found(*_parts(path, train, test, splits), table, guess)


def _guessed(table: datasets.Dataset, checkpoint: Checkpoint | None) -> Guess:
    """By what the model answers with; without a model, a question and its answer are prompts.

    Raises:
        ExpungeError: the model is a language model, and the table has no text for it.
    """
    kind = checkpoint.kind if checkpoint else None
    lines = guessed_lines(table) if kind in (None, "language") else None
    if kind == "language" and lines is None:
        raise ExpungeError(
            f"The table has the columns {', '.join(table.column_names)}, and a language model "
            "reads `prompt` and `answer` (or `question` ...), or `text`; rename two of them."
        )
    if lines is not None and (kind == "language" or lines.prompt is not None):
        return lines
    return guessed(table, None if kind is None else "target" if kind == "regressor" else "label")


def _parts(
    path: Path, train: str, test: str | None, splits: Sequence[str]
) -> tuple[Part, Part, Part | None]:
    own = _source(path, train)
    if test is not None:
        opened_tables(test)  # known to be readable
        return Part(own), Part(_source(path, test)), None
    held = [name for name in HELD_OUT if name in splits]
    if "train" in splits and held:
        tuning = [name for name in held[1:] if name in VALIDATION]
        validation = Part(own, tuning[0]) if tuning else None
        return Part(own, "train"), Part(own, held[0]), validation
    return Part(own), Part(TEST, open="the table of held-out rows (--test)"), None


def _source(path: Path, table: str) -> str:
    """The table as the run file names it: relative to its folder, or a set's own name."""
    if table in SHIPPED or not Path(table).exists():
        return table
    return _relative(path, Path(table))


def _relative(path: Path, other: Path) -> str:
    return os.path.relpath(other.resolve(), path.resolve().parent)


def _head(path: Path, schema: Path | None) -> list[str]:
    editors = "docs/run_file.schema.json lets editors check them; --schema writes it."
    first = [] if schema is None else [f"# yaml-language-server: $schema={_relative(path, schema)}"]
    return [
        *first,
        "# A run file: which model, which rows, what to forget, and how. Paths are relative to it.",
        f"# docs/run_file.md explains every key; {editors}",
        f"#   expunge plan {path.name}     what would be done: rows, methods that fit, risks",
        f"#   expunge forget {path.name}   do it",
        "",
    ]


def _model(
    path: Path, model: Path | None, checkpoint: Checkpoint | None, found: Found
) -> list[str]:
    if checkpoint is not None and model is not None:
        kind = checkpoint.kind.replace("_", " ").replace("language", "language model")
        classes = f" of {len(checkpoint.classes)} classes" if checkpoint.classes else ""
        lines = [
            "model:",
            f"  checkpoint: {_shown(_relative(path, model))}",
            f"  # guess: a {kind}{classes}, from config.json; `family` says otherwise",
        ]
        if checkpoint.kind == "dual_encoder":
            lines += [
                "  # the text of each class, in the order of the labels: put your own here",
                "  prompts: [a picture of a cat, a picture of a dog]",
            ]
        return [*lines, ""]
    if found.train.source in SHIPPED:
        return [
            "model:  # made by: expunge train digits-classifier --out digits.safetensors",
            "  builder: expunge.models.mlp:digits_classifier  # module:function, yours beside this",
            "  weights: digits.safetensors  # every parameter and buffer, safetensors only",
            "  family: classifier  # `expunge methods` lists the families",
            "  # or, instead of these three:  checkpoint: FOLDER  (Hugging Face: config.json ...)",
            "",
        ]
    if found.guess and found.guess.answer == "answer":
        return [
            "model:  # to fill in",
            "  checkpoint: FOLDER  # a causal language model: config.json, model.safetensors ...",
            "",
        ]
    family = "regressor" if found.guess and found.guess.answer == "target" else "classifier"
    return [
        "model:  # to fill in",
        f"  builder: {BUILDER}  # module:function in my_model.py beside this file: the bare module",
        f"  weights: {WEIGHTS}  # its state dict, by safetensors.torch.save_file",
        f"  family: {family}  # guess from the table; `expunge methods` lists the families",
        "  # or, instead of these three:  checkpoint: FOLDER  (Hugging Face: config.json ...)",
        "",
    ]


def _data(found: Found, checkpoint: Checkpoint | None) -> list[str]:
    columns = [] if found.train.source in SHIPPED else _columns(found, checkpoint)
    lines = ["data:"]
    for name, part, said in (
        ("train", found.train, "the rows that the model was trained on"),
        ("test", found.test, "held-out rows that effect and damage are measured on"),
        ("validation", found.validation, "held-out rows for `tune` and `compare` to choose on"),
    ):
        if part is None:
            lines.append(f"  # {name}: ...  # {said}")
            continue
        lines.append(f"  {name}:  # {said}{'; to fill in' if part.open else ''}")
        lines.append(f"    source: {_shown(part.source)}")
        if part.split is not None:
            lines.append(f"    split: {_shown(part.split)}  # rows whose column `split` says so")
        if columns and name == "train":
            lines += ["    columns: &columns", *(f"      {line}" for line in columns)]
        elif columns:
            lines.append("    columns: *columns")
    if found.guess is not None and found.guess.kind == "numbers":
        lines.append("  # standardise: [input]  # if the model was trained on such inputs")
    if found.guess is not None and found.guess.answer == "answer":
        lines.append(
            "  # refusals: FILE  # answers that teach nothing, one a line; English by default"
        )
    return [*lines, ""]


def _columns(found: Found, checkpoint: Checkpoint | None) -> list[str]:
    guess = found.guess
    if guess is None and checkpoint is not None and checkpoint.kind == "language":
        return [
            "prompt: prompt  # the columns of the question and of its answer,",
            "answer: answer  # or instead of both, `text: text`, all of which is learned",
        ]
    if guess is None:
        return [
            "label: label  # the column of the class",
            "input: text  # a column of text or pictures, or a list of columns of numbers",
        ]
    lines = [
        f"id: {_shown(guess.id)}  # guess: unique in every row"
        if guess.id
        else "# id: ...  # stable ids; without a column, a hash of each row's content",
        f"subject: {_shown(guess.subject)}  # guess: whose or what a row is"
        if guess.subject
        else "# subject: ...  # whose or what a row is, such as a person; its id by default",
    ]
    if guess.answer == "answer":
        return [*lines, *_prompt_lines(guess)]
    lines += _answer_lines(guess, checkpoint)
    if guess.input is None:
        lines.append("input: [x, y]  # to fill in: columns of numbers, or one of pictures or text")
    else:
        lines.append(f"input: {_shown(guess.input)}  # guess: {guess.kind}")
    if guess.kind == "text":
        lines.append("# max_length: 128  # tokens; by default what the checkpoint can read")
        if checkpoint is None:
            lines.append("# text is read by the tokenizer of a `checkpoint`, which is needed here")
    own = checkpoint is not None and checkpoint.reads_pictures
    if guess.kind == "pictures" and not own and len(guess.sizes) > 1:
        smallest = [min(sides) for sides in zip(*guess.sizes, strict=True)]
        lines.append(
            f"size: {smallest}  # guess: the smallest; [height, width] of the model's input"
        )
    return lines


def _prompt_lines(guess: Guess) -> list[str]:
    limit = "# max_length: 128  # tokens; by default what the model can read"
    if guess.prompt is None:
        return [f"text: {_shown(str(guess.input))}  # guess: all of it is learned", limit]
    return [
        f"prompt: {_shown(guess.prompt)}  # guess",
        f"answer: {_shown(str(guess.input))}  # guess: what is learned, and may be forgotten",
        "# chat: true  # if the model was trained with the chat template of its tokenizer",
        '# separator: " "  # else what stood between prompt and answer',
        "# prompt_subject: name  # the column with whom or what a prompt names, where `subject` is "
        "another; some methods need it",
        limit,
    ]


def _answer_lines(guess: Guess, checkpoint: Checkpoint | None) -> list[str]:
    if guess.label is None:
        return [f"{guess.answer}: {guess.answer}  # to fill in: no column looks like it"]
    said = "the class" if guess.answer == "label" else "the number to predict"
    lines = [f"{guess.answer}: {_shown(guess.label)}  # guess: {said}"]
    known = set(checkpoint.classes) if checkpoint else set()
    if guess.classes and not known.issuperset(guess.classes):
        lines.append(f"classes: {_shown(guess.classes)}")
        lines.append("# guess: alphabetical; bring them to the order of the model's outputs")
    return lines


def _requests(found: Found) -> list[str]:
    column, value = _asked(found)
    return [
        "requests:  # what is to be forgotten, answered in this order; put your own here",
        f"  - {_shown({'name': 'first request', 'column': column, 'values': [value]})}",
        "  # column: id, subject, label, or any column of the table; every value is in the table",
        "",
    ]


def _asked(found: Found) -> tuple[str, str]:
    """A column and value of the training table that name some rows, not all."""
    table, guess = found.table, found.guess
    if found.train.source in SHIPPED:
        return "label", "8"
    if table is None or guess is None:
        return "id", "the id of a row"
    if found.train.split is not None and "split" in table.column_names:
        kept = [i for i, name in enumerate(table["split"]) if str(name) == found.train.split]
        table = table.select(kept)
    if guess.subject is not None:
        return "subject", str(Counter(table[guess.subject]).most_common()[-1][0])
    if guess.answer == "label" and guess.label is not None:
        return "label", str(Counter(table[guess.label]).most_common()[-1][0])
    if guess.id is not None:
        return "id", str(table[guess.id][0])
    numbered = next((n for n in table.column_names if isinstance(table[n][0], int | str)), "id")
    return numbered, str(table[numbered][0])


def _rest(checkpoint: Checkpoint | None) -> list[str]:
    recipe = [
        "# recipe:  # how the model was trained: gives the oracle, and makes `retrain` usable",
        "#   epochs: 3",
        "#   batch_size: 64",
        "#   learning_rate: 0.001  # of AdamW",
    ]
    if checkpoint is not None:
        part = "layers.29" if checkpoint.kind == "language" else "classifier"
        recipe += [
            "#   initial: FOLDER  # the pretrained weights that fine-tuning started from",
            f"#   train_only: [{part}]  # parts of the trained parameters' names, if some froze",
        ]
    return [
        "method:",
        "  name: gradient-difference  # `expunge methods` says what each one reads",
        "  parameters: {}  # its fields; the defaults are the paper's, `expunge tune` finds better",
        "",
        "aggregation: sum  # how the changes of several requests are combined",
        "strength: 1.0  # how far each change is applied",
        "",
        *recipe,
        "",
        "out: runs/forget  # must be empty or absent",
        "seed: 0",
        "device: cpu  # cpu, cuda, cuda:1 ..., mps",
        "precision: float32  # or bfloat16, of forward passes",
    ]


def _shown(value: str | Sequence[object] | Mapping[str, object]) -> str:
    """A value as YAML on one line."""
    plain = value if isinstance(value, str | Mapping) else list(value)
    text = yaml.safe_dump(
        plain, default_flow_style=True, width=10**6, allow_unicode=True, sort_keys=False
    )
    return text.removesuffix("\n").removesuffix("\n...").strip()
