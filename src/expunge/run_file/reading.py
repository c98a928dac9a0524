"""Reading a run file: its model, its tables and its method in memory, each known to fit the others.

Paths in a run file are relative to the file. A builder is ``module:function``; the folder of the
run file is importable, so a researcher's own module beside it works without installation. The keys
stand in :mod:`expunge.run_file.keys`.
"""

import dataclasses
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import datasets
import torch
import yaml
from pydantic import ValidationError
from torch import nn

from expunge.changes.weights import load_stored, parameters_of, stored_tensors
from expunge.data.own import OwnRows, read_columns, read_rows
from expunge.data.prompts import lines_in, refusals_of, widened
from expunge.data.samples import Samples, TensorSamples
from expunge.data.scaling import Scaling
from expunge.deployment import Deployment
from expunge.descent.optimisers import AdamW
from expunge.errors import ExpungeError, IntegrityError, first_line
from expunge.families.abilities import Family, HasAnswers
from expunge.families.diffusion import LabelDiffusion, TextDiffusion
from expunge.families.diffusion_folder import DiffusionFolder, is_diffusion_folder
from expunge.learning.supervised.plain import Plain
from expunge.methods.presets import AtPreset, HasPreset, settled
from expunge.methods.protocol import Method
from expunge.models.checkpoint import Checkpoint
from expunge.models.freezing import train_only
from expunge.recipe import Learner, Recipe, Record, Reshapes, Role
from expunge.requests import Named, Request, Rows
from expunge.run import Precision, Run
from expunge.run_file.judging import judge_of
from expunge.run_file.keys import DataPart, MethodPart, RequestPart, RetrainPart, RunFile
from expunge.run_file.made import built, imported, make, registered
from expunge.run_file.probing import check_told, probed
from expunge.run_file.records import read_record
from expunge.run_file.repeated import check_repeated
from expunge.run_file.weights import check_weight, with_stored_weights
from expunge.run_file.words import check_tokens, check_words, sentences_of
from expunge.signals.drawings import Judge
from expunge.storage import read_header

DEVICES = ("cpu", "cuda", "mps")
"""Kinds of device that work is done on."""

PRESET, PAPER, RUN_FILE = "preset", "paper's defaults", "run file"
"""Where the fields of a method come from."""

Folder = Checkpoint | DiffusionFolder
"""A model with its weights in a folder: of ``transformers``, or of ``diffusers``."""

STORED_HALF = 1e-2
"""The share by which a weight may differ after it was stored in half precision (bfloat16)."""


@dataclass(frozen=True)
class Loaded:
    """A run file with everything it names in memory; nothing was written yet.

    ``settings`` says where the fields of the method come from. ``notes`` say what was left out of
    the tables, such as the ends of long texts. ``classes`` are the texts of the labels, where the
    tables hold texts. ``folder`` is where relative paths of the file start. ``judge`` says what the
    drawings of a model that draws show, where the file names one.
    """

    file: RunFile
    deployment: Deployment
    test: Samples
    test_table: Named
    requests: tuple[Request, ...]
    method: Method
    out: Path
    validation: Samples | None = None
    validation_table: Named | None = None
    checkpoint: Folder | None = None
    notes: tuple[str, ...] = ()
    settings: str = PAPER
    classes: tuple[str, ...] = ()
    folder: Path = Path()
    judge: Judge | None = None

    def run(self, **more: Any) -> Run:
        """The run that the file describes."""
        precision: Precision = self.file.precision
        return Run(self.file.seed, self.file.device, precision, **more)

    def with_weights(self, path: Path) -> nn.Module:
        """The model with other weights: of a safetensors file, or of a folder of its checkpoint.

        Raises:
            ExpungeError: a folder was given for a model with a builder.
            IntegrityError: the weights are damaged, not finite, or not those of the model.
        """
        if not path.is_dir():
            return with_stored_weights(self.deployment.base, path)
        if self.checkpoint is None:
            raise ExpungeError(
                f"The folder {path} was given; for a model with a builder a safetensors file is "
                "expected."
            )
        return _finite(self.checkpoint.with_weights_of(path), path)


def read(path: Path) -> Loaded:
    """Read a run file and load its model and data, and let the model answer a few rows.

    Raises:
        ExpungeError: the file, or something that it names, cannot be used, or it has no request.
    """
    file = parsed(path)
    if not file.requests:
        raise ExpungeError(
            f"{path} names no request, and at least one is expected; give it `requests`, or make "
            "requests of a registered model: `expunge ledger request`."
        )
    return loaded(file, path.resolve().parent)


def to_train(path: Path) -> Loaded:
    """What a run file names, its model as training starts with it: neither weights nor record are
    read.

    Raises:
        ExpungeError: the file, or something that it names, cannot be used, or it has no recipe.
    """
    file = parsed(path)
    if file.recipe is None:
        raise ExpungeError(
            f"{path} does not say how its model is trained; give it a `recipe`, such as "
            "`recipe: {epochs: 30}`."
        )
    return _with_model(file, path.resolve().parent, _Start())


def loaded(
    file: RunFile, folder: Path, weights: Mapping[str, torch.Tensor] | None = None
) -> Loaded:
    """What the keys of a run file name, in memory.

    Args:
        file: the keys.
        folder: where relative paths start.
        weights: of the model, in the place of those that the file names; these are not read then,
            and neither is the record.

    Raises:
        ExpungeError: something that the file names cannot be used.
        IntegrityError: the weights are not those of the model, or the record is of others.
    """
    return _with_model(file, folder, _Named() if weights is None else _Given(weights))


class _Source(Protocol):
    """Where the weights of a model come from, and its record."""

    def model(self, read: "_Keys") -> nn.Module:
        """The module."""
        ...

    def record(self, read: "_Keys", model: nn.Module) -> Record | None:
        """The record of that module."""
        ...


@dataclass(frozen=True)
class _Keys:
    """A run file with what its paths start from, and what makes its module."""

    file: RunFile
    folder: Path
    checkpoint: Folder | None
    untrained: Callable[[int], nn.Module]
    learner: Learner | None

    def shell(self) -> nn.Module:
        """The module that stored weights are put into."""
        made, learner = self.untrained(0), self.learner
        return learner.architecture(made) if isinstance(learner, Reshapes) else made


class _Named:
    """The weights and the record that the file names."""

    def model(self, read: _Keys) -> nn.Module:
        if read.checkpoint is not None:
            return _finite(read.checkpoint.model(), read.checkpoint.folder)
        assert read.file.model.weights is not None  # the keys were checked
        return with_stored_weights(read.shell(), read.folder / read.file.model.weights)

    def record(self, read: _Keys, model: nn.Module) -> Record | None:
        path = read.file.model.record
        return None if path is None else read_record(read.folder / path, model)


@dataclass(frozen=True)
class _Given:
    """Weights from elsewhere, and no record: who keeps the ones keeps the other."""

    weights: Mapping[str, torch.Tensor]

    def model(self, read: _Keys) -> nn.Module:
        return load_stored(read.shell(), self.weights, "The stored base")

    def record(self, read: _Keys, model: nn.Module) -> Record | None:
        return None


class _Start:
    """The weights that the recipe starts from."""

    def model(self, read: _Keys) -> nn.Module:
        part = read.file.recipe
        assert part is not None  # the only caller checked
        return _builder(part, read.folder, read.checkpoint, read.untrained)(part.seed)

    def record(self, read: _Keys, model: nn.Module) -> Record | None:
        return None


def _with_model(file: RunFile, folder: Path, source: _Source) -> Loaded:
    datasets.disable_progress_bars()  # an error is one sentence, with nothing before it
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)
    _check_device(file.device)
    checkpoint = None
    if file.model.checkpoint is not None:
        checkpoint = _opened(folder / file.model.checkpoint)
    family = _family(file, checkpoint)
    _check_columns(file, family)
    method, settings = _method(file.method)
    rule = make(registered("aggregations", file.aggregation), {})
    learner = None if file.recipe is None else _learner(file.recipe)
    _check_shell(file, learner)
    read = _Keys(file, folder, checkpoint, _untrained(file, folder, checkpoint), learner)
    model = source.model(read)
    tables, units = _standardised(file, _tables(file, folder, checkpoint))
    family = _completed(family, file, folder, checkpoint, tables["data.train"], units)
    if isinstance(family, LabelDiffusion):
        check_told("data.train", tables["data.train"].samples, family)
    tables = _told(file, tables, family, model)
    requests = _requests(file, tables["data.train"], family, model)
    for name, rows in tables.items():
        family = probed(name, rows.samples, model, family)
    recipe = None
    if file.recipe is not None:
        recipe = _recipe(file.recipe, read, family)
        if file.recipe.train_only:
            _check_frozen(train_only(model, file.recipe.train_only), recipe)
    train, test, validation = (
        tables.get(f"data.{name}") for name in ("train", "test", "validation")
    )
    assert train is not None
    assert test is not None
    held: dict[Role, Samples] = {}
    if validation is not None:
        held[Role.VALIDATION] = validation.samples
    if isinstance(family, TextDiffusion):
        held[Role.PROMPTS] = _prompts(file, folder, train, family, model)
    deployment = Deployment(
        model,
        family,
        train.samples,
        train.table,
        rule,
        data=held,
        recipe=recipe,
        record=source.record(read, model),
    )
    return Loaded(
        file,
        deployment,
        test.samples,
        test.table,
        requests,
        method,
        Path(os.path.normpath(folder / file.out)),
        None if validation is None else validation.samples,
        None if validation is None else validation.table,
        checkpoint,
        tuple(f"{name}: {note}" for name, rows in tables.items() for note in rows.notes),
        settings,
        _class_texts(train, family),
        folder,
        None if file.judge is None else judge_of(file.judge, folder, family, test.samples),
    )


def parsed(path: Path) -> RunFile:
    """The keys of a run file, checked one by one.

    Raises:
        ExpungeError: the file is not there, is no YAML, or a key is unknown or of another kind.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise ExpungeError(f"There is no run file {path}; `docs/run_file.md` shows one.") from None
    except yaml.MarkedYAMLError as error:
        where = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ExpungeError(
            f"{path}{where} is not readable YAML: {error.problem}; `docs/run_file.md` shows a "
            "run file."
        ) from None
    except (yaml.YAMLError, ValueError, OSError) as error:
        raise ExpungeError(f"{path} is not readable YAML ({first_line(error)}).") from None
    try:
        return RunFile.model_validate(content)
    except ValidationError as error:
        found = error.errors()  # a misspelt key comes first: it explains why another is missing
        first = min(found, key=lambda each: each["type"] != "extra_forbidden")
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        given, said = first.get("input"), first["msg"].removeprefix("Value error, ")
        said = {"extra_forbidden": "there is no such key", "missing": "this key is needed"}.get(
            first["type"], said
        )
        shown = "" if isinstance(given, dict | list) else f" (given: {given!r})"
        raise ExpungeError(
            f"{path}: {where}: {said}{shown}; `docs/run_file.md` explains every key."
        ) from None


def _method(part: MethodPart) -> tuple[Method, str]:
    """The method of a run file, and where its fields come from.

    Without a field it is at its preset; with one, everything else is the paper's. The name of a
    method that it is put around is no field.

    Raises:
        ExpungeError: a field cannot be used, or a preset is asked for and the method has none.
    """
    kind = registered("methods", part.name)
    method: Method = make(kind, part.parameters)
    given = settled(method, part.parameters)
    wanted = not given if part.preset is None else part.preset
    if wanted and isinstance(method, HasPreset):
        beside = f"{RUN_FILE} and {PRESET}" if given else PRESET
        return AtPreset.of(method, given), beside
    if part.preset:
        raise ExpungeError(
            f"The preset of {part.name!r} was asked for and it has none; leave `method.preset` out."
        )
    return method, RUN_FILE if part.parameters else PAPER


def _check_device(device: str) -> None:
    if device.partition(":")[0] not in DEVICES:
        raise ExpungeError(
            f"The device {device!r} was asked for; one of {', '.join(DEVICES)} is expected, such "
            "as 'cuda:0' for the first accelerator."
        )
    Run(device=device)


def _opened(folder: Path) -> Folder:
    """The folder of a model, in either layout."""
    return DiffusionFolder(folder) if is_diffusion_folder(folder) else Checkpoint.open(folder)


def _family(file: RunFile, checkpoint: Folder | None) -> Family:
    """The family as the file names it, or as it follows from the folder.

    Raises:
        ExpungeError: there is none of the name, a field cannot be used, or fields were given that
            a folder says itself.
    """
    part = file.model
    if not isinstance(checkpoint, DiffusionFolder):
        kind = part.family or (checkpoint.kind if checkpoint else "")
        family: Family = make(registered("families", kind), part.family_arguments)
        return family
    if part.family_arguments or part.family not in (None, checkpoint.kind):
        raise ExpungeError(
            f"The model in {checkpoint.folder} is of the family {checkpoint.kind!r}, and its "
            "configs say the rest; leave `family` and `family_arguments` out."
        )
    return checkpoint.family()


def _untrained(
    file: RunFile, folder: Path, checkpoint: Folder | None
) -> Callable[[int], nn.Module]:
    """What makes the module from the seed of its initial weights."""
    if checkpoint is not None:
        return checkpoint.untrained
    name = str(file.model.builder)
    builder = imported(name, folder)

    def build(seed: int) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return built(name, builder, file.model.arguments)

    return build


def _finite(model: nn.Module, folder: Path) -> nn.Module:
    """The module of a folder, known to have no weight that is NaN or infinite."""
    for name, tensor in stored_tensors(model).items():
        check_weight(f"The weights in {folder}", name, tensor)
    return model


def _check_columns(file: RunFile, family: Family) -> None:
    """Every table is one of prompts and answers, or none is, as the family has it.

    Raises:
        ExpungeError: a table is of the other kind, or refusals were given for another family.
    """
    answers = isinstance(family, HasAnswers)
    for name, part in _parts(file).items():
        if answers and not part.columns.of_language:
            raise ExpungeError(
                f"The family {family.name!r} reads prompts and answers, and {name} names none; "
                "give `columns.prompt` and `columns.answer`, or `columns.text`."
            )
        if not answers and part.columns.of_language:
            raise ExpungeError(
                f"{name} names prompts and answers or a text, which language models read, and the "
                f"family is {family.name!r}; give `columns.input` and its answer, or another model."
            )
    if file.data.refusals is not None and not answers:
        raise ExpungeError(
            f"`data.refusals` is for language models and the family is {family.name!r}; leave it "
            "out."
        )


def _parts(file: RunFile) -> dict[str, DataPart]:
    """Every table that the file names, by its key."""
    parts = {"data.train": file.data.train, "data.test": file.data.test}
    if file.data.validation is not None:
        parts["data.validation"] = file.data.validation
    return parts


def _tables(file: RunFile, folder: Path, checkpoint: Folder | None) -> dict[str, OwnRows]:
    """Every table of the file by its key; lines of tokens have one width in all of them, so that
    rows of several can be joined and compared."""
    found = {n: _rows(n, part, folder, checkpoint) for n, part in _parts(file).items()}
    if not isinstance(checkpoint, Checkpoint) or not file.data.train.columns.of_language:
        return found
    widest = max(rows.samples.columns["labels"].shape[1] for rows in found.values())
    return {
        name: dataclasses.replace(rows, samples=widened(rows.samples, widest, checkpoint.padding))
        for name, rows in found.items()
    }


def _rows(name: str, part: DataPart, folder: Path, checkpoint: Folder | None) -> OwnRows:
    encoder = checkpoint if isinstance(checkpoint, Checkpoint) else None
    classes = encoder.classes if encoder else ()
    try:
        return read_rows(part.source, part.split, part.columns, folder, encoder, classes)
    except IntegrityError:
        raise
    except ExpungeError as error:
        raise ExpungeError(f"{name}: {error}") from None


def _standardised(
    file: RunFile, tables: Mapping[str, OwnRows]
) -> tuple[dict[str, OwnRows], tuple[float, ...]]:
    """The tables in the scale of the training table, and the units of its targets."""
    units: tuple[float, ...] = ()
    found = dict(tables)
    for part in dict.fromkeys(file.data.standardise):
        train = found["data.train"]
        field = "target" if part == "target" else train.inputs[0]
        column = train.samples.columns.get(field)
        if column is None or column.dim() > 2 or not column.is_floating_point():
            raise ExpungeError(
                f"`data.standardise` names the {part}, and data.train has no {part} of numbers in "
                "columns; leave it out, or name columns of numbers."
            )
        scaling = Scaling.of(column)
        if part == "target":
            units = tuple(scaling.deviations.tolist())
        for name, rows in found.items():
            scaled = scaling.applied(rows.samples.columns[field])
            samples = rows.samples.with_column(field, scaled)
            found[name] = dataclasses.replace(rows, samples=samples)
    return found, units


def _completed(
    family: Family,
    file: RunFile,
    folder: Path,
    checkpoint: Folder | None,
    train: OwnRows,
    units: tuple[float, ...],
) -> Family:
    """The family with what follows from the data and the checkpoint, where the file is silent."""
    known: dict[str, Any] = {"inputs": train.inputs, **_drawn_by(family, train)}
    if units:
        known["units"] = units
    columns = file.data.train.columns
    if columns.of_language:
        assert isinstance(checkpoint, Checkpoint)  # else the rows were not read
        path = None if file.data.refusals is None else folder / file.data.refusals
        prompt = "" if columns.prompt is None else str(train.table[columns.prompt][0])
        known["refusals"] = refusals_of(path, prompt, columns, checkpoint)
    if file.model.prompts and isinstance(checkpoint, Checkpoint):
        known["prompts"] = checkpoint.texts(file.model.prompts, None).fields
        known["classes"] = len(file.model.prompts)
    fields = {f.name for f in dataclasses.fields(family)}  # type: ignore[arg-type]
    if file.model.prompts and "prompts" not in fields:
        raise ExpungeError(
            f"`model.prompts` were given and the family {family.name!r} takes none; leave them out."
        )
    news = {n: v for n, v in known.items() if n in fields - set(file.model.family_arguments)}
    completed: Family = dataclasses.replace(family, **news)  # type: ignore[type-var]
    return completed


def _drawn_by(family: Family, train: OwnRows) -> dict[str, Any]:
    """What the training rows say of a diffusion model: the shape of its pictures, and the names of
    its labels where the table holds texts. A model of latents says the former itself."""
    images = train.samples.columns.get("image")
    if images is None:
        return {}
    if isinstance(family, TextDiffusion):
        return {} if family.latents else {"shape": tuple(images.shape[1:])}
    if not isinstance(family, LabelDiffusion):
        return {}
    named = {"classes": train.classes} if train.classes else {}
    return {"shape": tuple(images.shape[1:]), **named}


def _told(
    file: RunFile, tables: Mapping[str, OwnRows], family: Family, model: nn.Module
) -> dict[str, OwnRows]:
    """The tables with the tokens of their sentences, where the model is told some.

    Raises:
        ExpungeError: a table has no sentences, the model does not know a word of them, or sentences
            were given for another family.
    """
    if not isinstance(family, TextDiffusion):
        named = next((n for n, part in _parts(file).items() if part.columns.caption), None)
        key = "data.prompts" if file.data.prompts is not None else named and f"{named}: `caption`"
        if key is not None:
            raise ExpungeError(
                f"{key} is for text-to-image models and the family is {family.name!r}; leave it "
                "out."
            )
        return dict(tables)
    found = {}
    for name, rows in tables.items():
        if not rows.captions:
            raise ExpungeError(
                f"A text-to-image model is told a sentence with every picture, and {name} names "
                "none; give `columns.caption`."
            )
        try:
            told = sentences_of(rows.captions, family)
        except ExpungeError as error:
            raise ExpungeError(f"{name}: {error}") from None
        check_tokens(name, told, model)
        samples = rows.samples.with_column(family.told_by, told)
        found[name] = dataclasses.replace(rows, samples=samples)
    return found


def _prompts(
    file: RunFile, folder: Path, train: OwnRows, family: TextDiffusion, model: nn.Module
) -> TensorSamples:
    """Every sentence that the model is asked with, once: those of the training rows, and those of
    the file.

    Raises:
        ExpungeError: the file cannot be read, or the model does not know a word of it.
    """
    texts, tokens = list(train.captions), [train.samples.columns[family.told_by]]
    if file.data.prompts is not None:
        path = folder / file.data.prompts
        lines = lines_in(path, "sentences of data.prompts", "sentence")
        more = tuple(line.strip() for line in lines)
        try:
            told = sentences_of(more, family)
            check_tokens("It", told, model)
        except ExpungeError as error:
            raise ExpungeError(f"data.prompts {path}: {error}") from None
        texts += more
        tokens.append(told)
    first: dict[str, int] = {}
    for row, text in enumerate(texts):
        first.setdefault(text, row)
    chosen = torch.tensor(list(first.values()))
    return TensorSamples(list(first), list(first), {family.told_by: torch.cat(tokens)[chosen]})


def _class_texts(train: OwnRows, family: Family) -> tuple[str, ...]:
    """The names by which requests may name classes."""
    if isinstance(family, LabelDiffusion):
        return family.classes
    return train.classes


def _requests(
    file: RunFile, rows: OwnRows, family: Family, model: nn.Module
) -> tuple[Request, ...]:
    """The requests of the file, each known to name training rows; nothing is asked twice."""
    found: list[Request] = []
    train, texts = file.data.train, _class_texts(rows, family)
    for part in file.requests:
        values = tuple(_class_index(part, v, texts) for v in part.values)
        labels = tuple(int(v) for v in values if v.isdecimal()) * (part.column == "label")
        target = Rows(part.column, values)
        request = Request(part.name, target, part.anchor, labels, part.text)
        for past in found:
            if past.name == request.name:
                raise ExpungeError(
                    f"Two requests have the name {request.name!r}; give each a name of its own."
                )
            if past.digest() == request.digest():
                raise ExpungeError(
                    f"The request {request.name!r} was made before, as {past.name!r}; drop it "
                    "from the run file."
                )
        try:
            request.target.rows(rows.table)
        except ExpungeError as error:
            split = f", split {train.split}" if train.split else ""
            raise ExpungeError(f"data.train ({train.source}{split}): {error}") from None
        if isinstance(family, TextDiffusion):
            request = dataclasses.replace(request, labels=_whole_classes(request, rows))
        check_words(request, family, model, rows.samples, rows.table)
        found.append(request)
    if train.columns.of_language:
        check_repeated(found, rows.table, read_columns(train.columns))
    return tuple(found)


def _whole_classes(request: Request, rows: OwnRows) -> tuple[int, ...]:
    """The classes of which a request names every training row: what a judge of classes is not to
    see any more, where words are forgotten. None where rows have no class."""
    labels = rows.samples.columns.get("label")
    if labels is None:
        return ()
    left = torch.ones(len(labels), dtype=torch.bool)
    left[request.target.rows(rows.table)] = False
    return tuple(sorted(set(labels.tolist()) - set(labels[left].tolist())))


def _class_index(part: RequestPart, value: str, classes: tuple[str, ...]) -> str:
    """A class may be named by its text where ``classes`` lists it; the table holds its index."""
    if part.column != "label" or value not in classes:
        return value
    return str(classes.index(value))


def _recipe(part: RetrainPart, read: _Keys, family: Family) -> Recipe:
    build = _builder(part, read.folder, read.checkpoint, read.untrained)
    assert read.learner is not None  # there is a recipe
    return Recipe(build, family, read.learner, part.seed)


def _check_shell(file: RunFile, learner: object) -> None:
    """Refuse what a module that its learner makes cannot be, where the learner makes one.

    Raises:
        ExpungeError: it would be a Hugging Face folder, or its parameters are named as the
            builder's.
    """
    if not isinstance(learner, Reshapes):
        return
    what = f"The learner {type(learner).__name__} makes a module of its own"
    if file.model.checkpoint is not None:
        raise ExpungeError(
            f"{what}, which a `checkpoint` folder cannot hold; name the module that it starts from "
            "by `builder`, and the pretrained weights by `recipe.initial`."
        )
    if file.recipe is not None and file.recipe.train_only:
        raise ExpungeError(
            f"{what}, whose parameters `recipe.train_only` does not name; leave it out."
        )


def _learner(part: RetrainPart) -> Learner:
    """The learner of a recipe.

    Raises:
        ExpungeError: there is no such learner, or a field cannot be used.
    """
    if part.learner is not None:
        learner: Learner = make(registered("learners", part.learner.name), part.learner.parameters)
        return learner
    assert part.epochs is not None  # the keys were checked
    optimiser = AdamW(part.learning_rate, weight_decay=part.weight_decay)
    return Plain(part.epochs, part.batch_size, optimiser)


def _builder(
    part: RetrainPart,
    folder: Path,
    checkpoint: Folder | None,
    untrained: Callable[[int], nn.Module],
) -> Callable[[int], nn.Module]:
    """What makes the module as training starts with it, from a seed."""
    initial = None if part.initial is None else folder / part.initial
    if initial is not None and not initial.is_dir():
        read_header(initial)  # an error is said before any work
    elif initial is not None and checkpoint is None:
        raise ExpungeError(
            f"`recipe.initial` is the folder {initial}; for a model with a builder a safetensors "
            "file is expected."
        )

    def build(seed: int) -> nn.Module:
        if initial is None:
            model = untrained(seed)
        elif checkpoint is not None and initial.is_dir():
            model = checkpoint.started(initial, seed)
        else:
            model = with_stored_weights(untrained(seed), initial)
        return train_only(model, part.train_only) if part.train_only else model

    return build


def _check_frozen(model: nn.Module, recipe: Recipe) -> None:
    """Make sure that what was frozen is in the model as training began: else the oracle, which
    keeps it as the recipe makes it, would be a model of other layers."""
    start = parameters_of(recipe.builder(recipe.seed))
    for name, parameter in parameters_of(model).items():
        if not parameter.requires_grad and not torch.allclose(
            parameter.detach(), start[name].detach(), rtol=STORED_HALF, atol=1e-6
        ):
            raise ExpungeError(
                f"By `recipe.train_only` {name!r} is frozen, and in the model it is another than "
                "in what the recipe starts from; give the weights that training started from as "
                "`recipe.initial`, or name all that was trained."
            )
