"""The keys of a run file, as pydantic reads them, and the JSON Schema that editors read."""

import json
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from expunge.data.mapping import Columns

SCHEMA_DIALECT = "https://json-schema.org/draft/2020-12/schema"

Seed = Annotated[int, Field(ge=0, lt=2**63)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelPart(_Strict):
    """Where the model is: a Hugging Face checkpoint folder, or a builder with its weights."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [
                {"required": ["checkpoint"]},
                {"required": ["builder", "weights", "family"]},
            ]
        }
    )

    checkpoint: Path | None = Field(
        default=None,
        description="A Hugging Face folder: config.json, model.safetensors (or its sharded index), "
        "and the tokenizer or image processor; or a text-to-image model in the layout of diffusers "
        "(unet, text_encoder, tokenizer, scheduler, perhaps vae). Instead of `builder` and "
        "`weights`.",
    )
    prompts: tuple[str, ...] = Field(
        default=(),
        description="For a dual encoder (CLIP) in `checkpoint`: the text of each class, in the "
        "order of the labels; the checkpoint's tokenizer reads them.",
    )
    builder: str | None = Field(
        default=None,
        description="module:function that returns the untrained module. The folder of the run "
        "file is importable. The function is your code and is run.",
    )
    arguments: dict[str, Any] = Field(default={}, description="What the builder is called with.")
    weights: Path | None = Field(
        default=None,
        description="A safetensors file with every parameter and stored buffer of the builder's "
        "module.",
    )
    record: Path | None = Field(
        default=None,
        description="A safetensors file: what the learner of the `recipe` kept while it trained "
        "these weights, for methods that need it. `expunge train` writes both.",
    )
    family: str | None = Field(
        default=None,
        description="classifier, regressor, dual_encoder, diffusion, score, text-to-image, or "
        "another registered family; follows from a checkpoint's config where it is left out.",
    )
    family_arguments: dict[str, Any] = Field(
        default={},
        description="Fields of the family, such as `inputs`, the fields that the module is called "
        "with (those of the data by default), or `classes`: of a classifier how many, of a "
        "diffusion model the names of what it draws, in the order of the labels; of a text-to-"
        "image model without a folder its `tokens`, `{words: [...], length: ...}`.",
    )

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        """A checkpoint brings its module and weights itself."""
        own = {"builder": self.builder, "weights": self.weights, "family": self.family}
        missing = [name for name, value in own.items() if value is None]
        if self.checkpoint is None:
            if len(missing) == len(own):
                raise ValueError("give `checkpoint`, or `builder` with `weights` and `family`")
            if missing:
                raise ValueError(f"a model without `checkpoint` needs `{missing[0]}`, too")
            if self.prompts:
                raise ValueError("`prompts` are read by the tokenizer of a `checkpoint`")
        elif self.builder is not None or self.weights is not None or self.arguments:
            raise ValueError("give `checkpoint`, or `builder` and `weights`, not both")
        return self


class DataPart(_Strict):
    """A table: a set by name, or a file or folder, with the columns of the user's own."""

    source: str = Field(
        description="A set by name (digits, mnist-5k, emoji, emoji-canvas), a .parquet, .csv, "
        ".json or .jsonl file, a folder saved by `datasets`, or a folder of pictures."
    )
    split: str | None = Field(
        default=None,
        description="Keep the rows whose column `split` holds this; of a folder of pictures, "
        "those below the folder of this name.",
    )
    columns: Columns = Field(default=Columns(), description="Which column plays which part.")


class Data(_Strict):
    """The rows that the model was trained on, and held-out rows to measure on."""

    train: DataPart = Field(description="The rows that the model was trained on.")
    test: DataPart = Field(description="Held-out rows that effect and damage are measured on.")
    validation: DataPart | None = Field(
        default=None, description="Held-out rows for choosing hyper-parameters and strengths."
    )
    standardise: tuple[Literal["input", "target"], ...] = Field(
        default=(),
        description="Subtract the mean and divide by the standard deviation (of the population) "
        "of all rows of `train`, column by column. Errors are still given in the user's unit.",
    )
    prompts: Path | None = Field(
        default=None,
        description="For text-to-image models: a text file of sentences that the model is asked "
        "with, one a line, beside those of `train`, for methods that read sentences alone.",
    )
    refusals: Path | None = Field(
        default=None,
        description="For language models: a text file of answers that teach nothing, one a line, "
        "for methods that teach them in the place of what is forgotten. English ones are shipped.",
    )


def _texts(values: object) -> object:
    """YAML reads 8 as a number and 2020-01-31 as a date; tables are searched as text."""
    if not isinstance(values, list):
        return values
    return [v if v is None or isinstance(v, dict | list) else str(v) for v in values]


class RequestPart(_Strict):
    """One request: the rows whose ``column`` holds one of ``values``."""

    name: str = Field(description="What people call the request.")
    column: str = Field(description="id, subject, label, or any column of the table.")
    values: Annotated[
        list[str],
        WithJsonSchema(
            {
                "type": "array",
                "minItems": 1,
                "items": {"type": ["string", "number", "boolean"]},
            }
        ),
    ] = Field(
        min_length=1,
        description="The values whose rows are to be forgotten, compared as text; a class that "
        "`classes` lists may be named by its text.",
    )
    anchor: Annotated[str | None, WithJsonSchema({"type": ["string", "integer", "null"]})] = Field(
        default=None,
        description="For models that are told what to draw: the class, or the words, that are "
        "drawn in the place of this one, for methods that need one.",
    )
    text: str = Field(
        default="",
        description="For text-to-image models: the words that must not be drawn any more, as "
        "sentences say them.",
    )

    @field_validator("values", mode="before")
    @classmethod
    def _as_text(cls, values: object) -> object:
        return _texts(values)

    @field_validator("anchor", mode="before")
    @classmethod
    def _anchor_as_text(cls, value: object) -> object:
        return str(value) if isinstance(value, int) else value


class JudgePart(_Strict):
    """A classifier that says what drawings show; no method sees it."""

    builder: str = Field(
        description="module:function that returns the untrained classifier, as in `model`."
    )
    arguments: dict[str, Any] = Field(default={}, description="What the builder is called with.")
    weights: Path = Field(description="A safetensors file with the classifier's weights.")
    each: Annotated[int, Field(gt=0)] = Field(
        default=20, description="Pictures that are drawn of every class."
    )
    steps: Annotated[int, Field(gt=0)] = Field(default=25, description="Of the sampler.")
    guidance: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        default=2.0, description="Of models that are told what to draw; 1 is none."
    )
    eta: Annotated[float, Field(ge=0, le=1)] = Field(
        default=0.0,
        description="Of models that are told what to draw: how much of the noise that a step takes "
        "away is drawn anew; 0 is DDIM, 1 ancestral.",
    )


class MethodPart(_Strict):
    """The method by its registered name, and its hyper-parameters."""

    name: str = Field(description="A registered method; `expunge methods` lists them.")
    parameters: dict[str, Any] = Field(
        default={},
        description="Fields of the method. Without any, its preset finds them for each request; "
        "with some, the others are the paper's.",
    )
    preset: bool | None = Field(
        default=None,
        description="false: the paper's values for what `parameters` leaves out. true: the preset, "
        "also beside `parameters`, which stay as they are given.",
    )


class LearnerPart(_Strict):
    """A learner by its registered name, and its fields."""

    name: str = Field(description="A registered learner; `expunge methods` lists them.")
    parameters: dict[str, Any] = Field(
        default={},
        description="Fields of the learner. What is an object (a loss, an optimiser) is given by "
        "name, or with `name` and its own fields.",
    )


class RetrainPart(_Strict):
    """How the model was trained, for the oracle."""

    model_config = ConfigDict(
        allow_inf_nan=False,
        json_schema_extra={"oneOf": [{"required": ["epochs"]}, {"required": ["learner"]}]},
    )

    learner: LearnerPart | None = Field(
        default=None,
        description="How it was trained, where that is not the plain training that `epochs`, "
        "`batch_size`, `learning_rate` and `weight_decay` describe.",
    )
    epochs: Annotated[int, Field(gt=0)] | None = Field(
        default=None, description="Passes over the training rows."
    )
    batch_size: Annotated[int, Field(gt=0)] = Field(default=64, description="Rows a step.")
    learning_rate: Annotated[float, Field(gt=0)] = Field(default=1e-3, description="Of AdamW.")
    weight_decay: Annotated[float, Field(ge=0)] = Field(
        default=0.0, description="Of AdamW, decoupled from the gradient."
    )
    seed: Seed = Field(
        default=0, description="Of the initial weights and of the order of the rows."
    )
    initial: Path | None = Field(
        default=None,
        description="The weights that training started from, for fine-tuned models: a safetensors "
        "file, or for a `checkpoint` a Hugging Face folder, whose missing head is initialised with "
        "`seed`. Without it, all weights are initialised with `seed`.",
    )
    train_only: tuple[str, ...] = Field(
        default=(),
        description="Parameters whose name contains one of these were trained, all others were "
        "frozen. What is frozen no request changes.",
    )

    @model_validator(mode="after")
    def _one_training(self) -> Self:
        """A learner has fields of its own."""
        if self.learner is None and self.epochs is None:
            raise ValueError("give `epochs` of a plain training, or a `learner`")
        fields = type(self).model_fields  # values, since a file that was read is stored with all
        plain = ("batch_size", "epochs", "learning_rate", "weight_decay")
        own = [name for name in plain if getattr(self, name) != fields[name].default]
        if self.learner is not None and own:
            raise ValueError(
                f"`{own[0]}` is of the plain training; give what a `learner` has as its "
                "`parameters`"
            )
        return self


class RunFile(_Strict):
    """A model, its data, what to forget and how: what `expunge forget` needs to know."""

    model_config = ConfigDict(title="expunge run file")

    model: ModelPart = Field(description="The model to change.")
    data: Data = Field(description="The tables.")
    requests: list[RequestPart] = Field(
        default=[],
        description="What is to be forgotten, answered in this order. A model that is registered "
        "with a ledger needs none here.",
    )
    method: MethodPart = Field(description="How the requests are answered.")
    judge: JudgePart | None = Field(
        default=None,
        description="For models that draw: who says what their drawings show. Without one, what is "
        "measured is the denoising loss alone.",
    )
    aggregation: str = Field(
        default="cata", description="The rule that combines the changes of several requests."
    )
    strength: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        default=1.0, description="How far each change is applied; 1 is as the method made it."
    )
    recipe: RetrainPart | None = Field(
        default=None,
        description="How the model was trained. With it, the oracle is measured: the model "
        "retrained without the rows of all requests.",
    )
    out: Path = Field(
        default=Path("runs/forget"), description="Folder for what is written; empty or absent."
    )
    seed: Seed = Field(default=0, description="Fixes every draw of the methods.")
    device: str = Field(default="cpu", description="cpu, cuda, cuda:1 ..., or mps.")
    precision: Literal["float32", "bfloat16"] = Field(
        default="float32", description="Of forward passes; weights stay float32."
    )


def schema_text() -> str:
    """The JSON Schema of a run file, as it is written."""
    schema = {"$schema": SCHEMA_DIALECT, **RunFile.model_json_schema()}
    return json.dumps(schema, indent=2) + "\n"
