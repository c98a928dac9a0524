"""Mapping: which of the user's columns plays which part."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Side = Annotated[int, Field(gt=0)]

OTHERS = frozenset(
    {
        "label",
        "classes",
        "target",
        "input",
        "input_field",
        "input_type",
        "size",
        "channels",
        "caption",
    }
)
"""Keys that say what other models than language models read or answer."""


class Columns(BaseModel):
    """Which of the user's columns plays which part."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str | None = Field(
        default=None, description="Stable id of a row; without one, a hash of the row's content."
    )
    subject: str | None = Field(
        default=None, description="Whose or what the row is: a person, a sender; the id by default."
    )
    label: str = Field(
        default="label", description="The class: an integer, or text that `classes` lists."
    )
    classes: tuple[str, ...] = Field(
        default=(),
        description="The texts of the classes in the model's order, where labels are text; those "
        "of a checkpoint's config by default.",
    )
    target: str | tuple[str, ...] | None = Field(
        default=None,
        description="Instead of `label`, for regressors: one or several columns of numbers to be "
        "predicted.",
    )
    input: str | tuple[str, ...] = Field(
        default="image",
        description="Columns of numbers, or one column of arrays, pictures or text. Text needs a "
        "checkpoint with a tokenizer.",
    )
    input_field: str = Field(
        default="image",
        description="The name of the field that holds the input; text has the names of its "
        "tokenizer instead (input_ids, attention_mask).",
    )
    input_type: Literal["float", "integer"] = Field(
        default="float",
        description="Numbers as float32, or as int64 for token ids and table places.",
    )
    size: Side | tuple[Side, Side] | None = Field(
        default=None,
        description="Pictures are resized to this side, or to [height, width], once and before "
        "anything else (bilinear).",
    )
    channels: Literal[1, 3] = Field(default=3, description="Of pictures: 3 for RGB, 1 for grey.")
    caption: str | None = Field(
        default=None,
        description="For text-to-image models: the column of the sentence that a picture is drawn "
        "from. `label` need not be there then; a judge reads it.",
    )
    max_length: Annotated[int, Field(gt=1)] | None = Field(
        default=None,
        description="Longest text in tokens, the rest is cut; by default what the checkpoint can "
        "read.",
    )
    prompt: str | None = Field(
        default=None,
        description="For language models, with `answer`: the column of the question or "
        "instruction. Only the answer is learned and scored.",
    )
    answer: str | None = Field(
        default=None, description="For language models, with `prompt`: the column of the answer."
    )
    prompt_subject: str | None = Field(
        default=None,
        description="For language models: the column with the text that names, in the prompt, whom "
        "or what it is about; `subject` by default, where every prompt has its text.",
    )
    text: str | None = Field(
        default=None,
        description="For language models, instead of `prompt` and `answer`: a column of text, all "
        "of which is learned.",
    )
    separator: str = Field(
        default=" ", description="What stands between prompt and answer, without `chat`."
    )
    chat: bool = Field(
        default=False,
        description="The tokenizer's chat template joins prompt and answer: a turn of the user's "
        "and one of the assistant's.",
    )

    @property
    def of_language(self) -> bool:
        """Whether the columns are those of a language model."""
        return any(name is not None for name in (self.prompt, self.answer, self.text))

    @property
    def given(self) -> frozenset[str]:
        """The keys that say more than their defaults: a stored file names every key."""
        fields = type(self).model_fields
        return frozenset(n for n in fields if getattr(self, n) != fields[n].get_default())

    @property
    def names_classes(self) -> bool:
        """Whether rows are said to have a class."""
        return bool({"label", "classes"} & self.given)

    @model_validator(mode="after")
    def _prompts_or_text(self) -> Self:
        """A line is a prompt and its answer, or a text."""
        given = self.given
        if (self.prompt is None) != (self.answer is None):
            lacks = "answer" if self.answer is None else "prompt"
            raise ValueError(f"`prompt` and `answer` belong together; give `{lacks}`, too")
        if self.prompt is not None and self.text is not None:
            raise ValueError("give `prompt` and `answer`, or `text`, not both")
        if self.prompt is None and {"separator", "chat"} & given:
            raise ValueError("`separator` and `chat` join `prompt` and `answer`; give these")
        if self.prompt is None and self.prompt_subject is not None:
            raise ValueError("`prompt_subject` is named in a `prompt`; give this one, too")
        if self.chat and "separator" in given:
            raise ValueError("a chat template has its own separator; give `separator` or `chat`")
        if self.of_language and (others := sorted(OTHERS & given)):
            raise ValueError(f"`{others[0]}` is not for language models; leave it out")
        return self

    @model_validator(mode="after")
    def _label_or_target(self) -> Self:
        """A row is learned for its class or for its numbers."""
        if self.target is not None and self.names_classes:
            raise ValueError("give `target`, or `label` and `classes`, not both")
        if self.target is not None and self.caption is not None:
            raise ValueError("`caption` is for models that draw, `target` for regressors; give one")
        if self.target == ():
            raise ValueError("`target` lists no column; name at least one")
        return self
