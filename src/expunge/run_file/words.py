"""What models are told and requests say in words, held against each other before any work."""

from typing import Any

import torch
from torch import Tensor, nn

from expunge.data.samples import Samples
from expunge.errors import ExpungeError
from expunge.families.abilities import Family
from expunge.families.diffusion import LabelDiffusion, TextDiffusion, different
from expunge.requests import Named, Request


def check_words(
    request: Request, family: Family, model: nn.Module, train: Samples, table: Named
) -> None:
    """Refuse words and an anchor that the model does not know, or that its rows do not speak of.

    Args:
        request: what is asked.
        family: of the model.
        model: the network.
        train: training rows.
        table: the columns by which the request names some of them.

    Raises:
        ExpungeError: the model is told no sentences and the request has a text, or nothing and it
            has an anchor; no sentence of the rows that it names speaks of the text; the model does
            not know the anchor, or is to forget it.
    """
    _check_text(request, family, train, table)
    _check_anchor(request, family, model)


def check_tokens(what: str, tokens: Tensor, model: nn.Module) -> None:
    """Every token (n, L) has an embedding in the model's text encoder, where it has one.

    Raises:
        ExpungeError: one has none.
    """
    encoder: Any = getattr(model, "text_encoder", None)
    if encoder is None or not hasattr(encoder, "get_input_embeddings"):
        return
    known = encoder.get_input_embeddings().weight.shape[0]
    if tokens.numel() and int(tokens.max()) >= known:
        raise ExpungeError(
            f"{what} has the token {int(tokens.max())}, and the text encoder has embeddings of "
            f"{known:,} tokens; give the tokenizer, or the `tokens`, that it was trained with."
        )


def _check_text(request: Request, family: Family, train: Samples, table: Named) -> None:
    if not request.text:
        return
    if not isinstance(family, TextDiffusion):
        raise ExpungeError(
            f"The request {request.name!r} has the text {request.text!r}; models of the family "
            f"{family.name!r} are told no sentences. Leave it out."
        )
    told = train.batch(request.target.rows(table), {family.told_by})[family.told_by]
    if not bool(family.speaking(told, request.text).any()):
        raise ExpungeError(
            f"No sentence of the {len(told)} training rows that {request.name!r} names speaks of "
            f"{request.text!r}; say the words as the sentences do, or name the rows that show it."
        )


def _check_anchor(request: Request, family: Family, model: nn.Module) -> None:
    if request.anchor is None:
        return
    if not isinstance(family, LabelDiffusion | TextDiffusion):
        raise ExpungeError(
            f"The request {request.name!r} has the anchor {request.anchor!r}; models of the family "
            f"{family.name!r} are not told what to draw. Leave it out."
        )
    told = family.conditions([request.anchor])
    if isinstance(family, TextDiffusion):
        check_tokens(f"The anchor {request.anchor!r}", told, model)
    if isinstance(family, LabelDiffusion):
        for label in request.labels:
            different(family.classes[label], request.anchor)
    if request.text:
        different(request.text, request.anchor)


def sentences_of(texts: tuple[str, ...], family: TextDiffusion) -> Tensor:
    """Tokens (n, L) of a sentence a row; each different one is read once.

    Raises:
        ExpungeError: the model does not know a word.
    """
    every = list(dict.fromkeys(texts))
    tokens = family.conditions(every)
    place = {text: row for row, text in enumerate(every)}
    return tokens[torch.tensor([place[text] for text in texts], dtype=torch.int64)]
