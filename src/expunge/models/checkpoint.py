"""Checkpoints: folders in the Hugging Face layout, read by ``transformers`` with its own classes.

A folder holds ``config.json``, ``model.safetensors`` (or its sharded index), and the tokenizer or
image processor. Code that a folder brings is never run, and only safetensors are read.
"""

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from expunge.data.encoding import Lines, Parts, Tokens
from expunge.errors import ExpungeError, IntegrityError, first_line
from expunge.models.lines import LineTokens

CONFIG, PROCESSOR = "config.json", "preprocessor_config.json"
WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
PICKLED = "pytorch_model.bin"
TOKENIZERS = ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "vocab.json")
COPIED = frozenset({".json", ".txt", ".model", ".bpe", ".tiktoken", ".jinja", ".md"})
"""Endings of what is copied beside a new model: tokenizer, processor and their texts. Weights of
any format stay behind, since they still hold what was forgotten, and so does code."""

INDEX = ".index.json"
"""The end of the name of a file that says which weights lie in which shard."""

AT_ONCE = 256
"""Pictures that are processed at a time."""

UNLIMITED = 10**6
"""A tokenizer without a limit of its own says a larger number than this."""

WHOLE = ("dual_encoder", "language")
"""Kinds that fine-tuning gives no new head."""

Kind = Literal["classifier", "regressor", "dual_encoder", "language"]


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """An opened folder; its weights are read by :meth:`model`.

    Args:
        folder: where it lies.
        config: what ``transformers`` made of ``config.json``.
        loader: the ``Auto`` class of ``transformers`` that fits its architecture.
        kind: the family of its models.
    """

    folder: Path
    config: Any
    loader: Any
    kind: Kind

    @classmethod
    def open(cls, folder: Path) -> "Checkpoint":
        """The checkpoint in a folder.

        Raises:
            ExpungeError: ``transformers`` is not installed, or the model is of a kind that is not
                understood.
            IntegrityError: a part of the folder is missing or unreadable.
        """
        transformers = _transformers()
        content = _config_of(folder)
        _check_weights(folder)
        [architecture, *_] = content.get("architectures") or [""]
        loader, kind = _kind(folder, architecture, content)
        with _reading(folder):
            config = transformers.AutoConfig.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
        return cls(folder, config, getattr(transformers, loader), kind)

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes in the order of the logits; none for other kinds."""
        if self.kind != "classifier":
            return ()
        return tuple(str(self.config.id2label[i]) for i in range(self.config.num_labels))

    def model(self) -> nn.Module:
        """The module with its weights in float32, in evaluation mode.

        Raises:
            IntegrityError: the weights are damaged, or are not those of the config.
        """
        with _reading(self.folder):
            module, found = self._read(self.folder)
        for name in _not_found(found):
            raise IntegrityError(
                f"The weights in {self.folder} lack {name!r}, or have it in another shape; "
                "give the folder of a model that was saved whole, with its head."
            )
        return module

    def with_weights_of(self, folder: Path) -> nn.Module:
        """The module of this config with the weights of another folder, all of them.

        Raises:
            ExpungeError: that folder holds a model of another kind.
            IntegrityError: it cannot be read, its weights are not those of this config, or its
                classes are others or in another order.
        """
        other = Checkpoint.open(folder)
        if other.classes != self.classes:
            raise IntegrityError(
                f"{folder} names the classes {', '.join(other.classes[:5]) or 'none'}, and the "
                f"model in {self.folder} {', '.join(self.classes[:5]) or 'none'}; a model of the "
                "same classes in the same order is expected."
            )
        return replace(other, config=self.config, loader=self.loader).model()

    def untrained(self, seed: int) -> nn.Module:
        """The module with weights initialised as ``transformers`` does, from a seed."""
        with quiet(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            module: nn.Module = self.loader.from_config(self.config, dtype=torch.float32)
        return module.eval()

    def started(self, initial: Path, seed: int) -> nn.Module:
        """The module with the weights of another folder, which it was fine-tuned from.

        The head, and a pooling layer that the folder lacks, are initialised from the seed; of a
        language model the folder holds everything.

        Raises:
            IntegrityError: the folder cannot be read, or its weights are of another architecture.
        """
        _check_weights(initial)
        with _reading(initial), torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            module, found = self._read(initial)
        # else the oracle would start from numbers that were drawn, without a word
        for name in _not_found(found):
            if self.kind in WHOLE or _is_of_encoder(module, name):
                raise IntegrityError(
                    f"{initial} lacks {name!r} of the model in {self.folder}, or has it in another "
                    "shape: fine-tuning did not start there. Give the folder that it started from."
                )
        return module

    def _read(self, folder: Path) -> tuple[nn.Module, Mapping[str, Any]]:
        module, found = self.loader.from_pretrained(
            folder,
            config=self.config,
            dtype=torch.float32,
            output_loading_info=True,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            ignore_mismatched_sizes=True,
        )
        return module.eval(), found

    def save(self, model: nn.Module, folder: Path) -> None:
        """Write the model as a folder of the same kind, with the tokenizer and processor.

        Of the original folder nothing goes along that could be weights. The folder must not be
        there; it appears whole or not at all.
        """
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".partial-", dir=folder.parent) as partial:
            made = Path(partial) / folder.name
            made.mkdir()
            for path in sorted(self.folder.iterdir()):
                if path.suffix in COPIED and not path.name.endswith(INDEX) and path.is_file():
                    shutil.copyfile(path, made / path.name)
            with quiet():
                model.save_pretrained(made)  # type: ignore[operator]
            made.rename(folder)

    @property
    def reads_pictures(self) -> bool:
        """Whether the folder has an image processor."""
        return (self.folder / PROCESSOR).exists()

    @cached_property
    def _processor(self) -> Any:
        with _reading(self.folder):
            return _transformers().AutoImageProcessor.from_pretrained(
                self.folder, backend="pil", local_files_only=True, trust_remote_code=False
            )

    @cached_property
    def _tokenizer(self) -> Any:
        if not any((self.folder / name).exists() for name in TOKENIZERS):
            raise ExpungeError(
                f"Text is to be read and {self.folder} has no tokenizer; save it there with "
                "`tokenizer.save_pretrained`."
            )
        with _reading(self.folder):
            return _transformers().AutoTokenizer.from_pretrained(
                self.folder, local_files_only=True, trust_remote_code=False
            )

    def pictures(self, rows: Sequence[Any]) -> Tensor:
        """Pictures as the image processor makes them, float32 (n, channels, height, width).

        Raises:
            ExpungeError: the processor refuses them, or leaves them at different sizes.
        """
        parts = []
        for start in range(0, len(rows), AT_ONCE):
            try:
                made = self._processor(images=list(rows[start : start + AT_ONCE]))["pixel_values"]
                parts.append(torch.stack([torch.as_tensor(one).float() for one in made]))
            except (ValueError, RuntimeError, TypeError) as error:
                raise ExpungeError(
                    f"The image processor in {self.folder} cannot read the pictures "
                    f"({first_line(error)}); check `channels` and `size` in `columns`."
                ) from None
        if len({part.shape[1:] for part in parts}) > 1:
            raise ExpungeError(
                f"The image processor in {self.folder} leaves the pictures at different sizes; "
                "give `size` in `columns`."
            )
        return torch.cat(parts)

    def texts(self, rows: Sequence[str], max_length: int | None) -> Tokens:
        """Tokens of the rows, padded to the longest of them.

        Raises:
            ExpungeError: the folder has no tokenizer, or it has no padding token.
        """
        if self._tokenizer.pad_token is None:
            raise ExpungeError(
                f"The tokenizer in {self.folder} has no padding token, which rows of different "
                "lengths need; set `tokenizer.pad_token` and `model.config.pad_token_id`, and "
                "save both again."
            )
        with quiet():
            lengths = [len(ids) for ids in self._tokenizer(list(rows))["input_ids"]]
            limit = max_length or self.context or max(lengths)
            found = self._tokenizer(
                list(rows),
                padding="max_length" if self._fixed_length else True,
                truncation=True,
                max_length=limit,
                return_tensors="pt",
            )
        # all-zero token types are what a model takes without them
        fields = {
            name: tensor.long()
            for name, tensor in found.items()
            if name != "token_type_ids" or bool(tensor.any())
        }
        return Tokens(fields, limit, sum(length > limit for length in lengths))

    @property
    def padding(self) -> int:
        """The padding token, or another one where the tokenizer has none."""
        known = (self._tokenizer.pad_token_id, self._tokenizer.eos_token_id)
        return next((int(token) for token in known if token is not None), 0)

    def lines(
        self,
        prompts: Sequence[str],
        answers: Sequence[str],
        separator: str,
        chat: bool,
        parts: Parts = (),
    ) -> Lines:
        """Prompts and answers as tokens; see :mod:`expunge.models.lines`.

        Raises:
            ExpungeError: there is no tokenizer, it knows more tokens than the model, or ``chat`` is
                asked for and there is no chat template that begins with the prompt.
        """
        self._check_vocabulary()
        made = LineTokens(self._tokenizer, self.folder)
        with quiet():
            if chat:
                return made.chatted(prompts, answers, parts)
            return made.separated(prompts, answers, separator, parts)

    def written(self, tokens: Sequence[Tensor]) -> list[str]:
        """Tokens (l,) as texts, without those that begin, end or fill up a line.

        Raises:
            ExpungeError: there is no tokenizer.
        """
        decode = self._tokenizer.decode
        with quiet():
            return [str(decode(ids.tolist(), skip_special_tokens=True)).strip() for ids in tokens]

    def _check_vocabulary(self) -> None:
        """Every token of the tokenizer is one of the model's."""
        text = getattr(self.config, "text_config", self.config)
        known, rows = len(self._tokenizer), getattr(text, "vocab_size", None)
        if rows is not None and known > rows:
            raise ExpungeError(
                f"The tokenizer in {self.folder} knows {known:,} tokens and the model has "
                f"embeddings of {rows:,}; give the tokenizer that it was trained with, or save the "
                "model after `resize_token_embeddings`."
            )

    @property
    def _fixed_length(self) -> bool:
        """Whether the text tower was trained on rows of one length only."""
        return "siglip" in self.config.model_type

    @property
    def context(self) -> int | None:
        """Tokens that the model can read, where tokenizer or config say so."""
        text = getattr(self.config, "text_config", self.config)
        positions = getattr(text, "max_position_embeddings", None)
        said = [n for n in (self._tokenizer.model_max_length, positions) if n and n < UNLIMITED]
        return min(said) if said else None


def _not_found(found: Mapping[str, Any]) -> list[str]:
    """The names that a folder lacks, or has in another shape, by what transformers says."""
    wrong = [*found["missing_keys"], *(key[0] for key in found["mismatched_keys"])]
    return sorted(map(str, wrong))


def _is_of_encoder(module: Any, name: str) -> bool:
    """Whether a parameter is of the pretrained part: neither of the head nor of a pooling layer."""
    return name.startswith(f"{module.base_model_prefix}.") and "pooler" not in name


def _transformers() -> Any:
    try:
        import transformers
    except ImportError:
        raise ExpungeError(
            "A `checkpoint` needs the package transformers; install it with "
            "`pip install 'expunge[hf]'`."
        ) from None
    return transformers


def _config_of(folder: Path) -> Mapping[str, Any]:
    path = folder / CONFIG
    if not path.is_file():
        raise IntegrityError(
            f"{folder} has no {CONFIG}; give a folder that was saved with `save_pretrained`."
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise IntegrityError(f"{path} is no readable JSON ({first_line(error)}).") from None
    if not isinstance(content, dict):
        raise IntegrityError(f"{path} holds no JSON object; restore it from its source.")
    return content


def _check_weights(folder: Path) -> None:
    if any((folder / name).is_file() for name in WEIGHTS):
        return
    if (folder / PICKLED).exists() or list(folder.glob("pytorch_model-*.bin")):
        raise IntegrityError(
            f"{folder} holds its weights as {PICKLED}, a pickle, which can run code when it is "
            "read; where you trust it, load it and write it again with "
            "`model.save_pretrained(FOLDER, safe_serialization=True)`."
        )
    raise IntegrityError(
        f"{folder} has no {WEIGHTS[0]}; give a folder that was saved with `save_pretrained`."
    )


def _kind(folder: Path, architecture: str, content: Mapping[str, Any]) -> tuple[str, Kind]:
    """The loader and the family of an architecture."""
    labels = content.get("id2label") or {}
    numbers = content.get("problem_type") == "regression" or len(labels) == 1
    answers: Kind = "regressor" if numbers else "classifier"
    if content.get("problem_type") == "multi_label_classification":
        raise ExpungeError(
            f"The model in {folder} gives several labels to a row; one label, or numbers, are "
            "expected."
        )
    if "ForImageClassification" in architecture:
        return "AutoModelForImageClassification", answers
    if "ForSequenceClassification" in architecture:
        return "AutoModelForSequenceClassification", answers
    if architecture.endswith(("ForCausalLM", "LMHeadModel")):
        return "AutoModelForCausalLM", "language"
    if "text_config" in content and "vision_config" in content and architecture.endswith("Model"):
        return "AutoModel", "dual_encoder"
    raise ExpungeError(
        f"The config in {folder} names the architecture {architecture or 'none'!r}; one for image "
        "classification, sequence classification or causal language modelling, or a dual encoder "
        "such as CLIPModel, is expected. For another model give `builder` and `weights`."
    )


@contextmanager
def quiet(*others: Any) -> Iterator[None]:
    """Inside, transformers prints neither warnings nor progress bars.

    Args:
        others: the ``logging`` modules of further libraries that are built alike.
    """
    told = (_transformers().logging, *others)
    before = [(said, said.get_verbosity(), said.is_progress_bar_enabled()) for said in told]
    for said in told:
        said.set_verbosity_error()
        said.disable_progress_bar()
    try:
        yield
    finally:
        for said, verbosity, bars in before:
            said.set_verbosity(verbosity)
            if bars:
                said.enable_progress_bar()


@contextmanager
def _reading(folder: Path) -> Iterator[None]:
    """Errors of reading a folder become one sentence."""
    try:
        with quiet():
            yield
    except ExpungeError:
        raise
    except (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError) as error:
        raise IntegrityError(
            f"{folder} cannot be read as a checkpoint ({first_line(error)}); restore it, or save "
            "it again with `save_pretrained`."
        ) from None
