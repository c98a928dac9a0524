"""Prompts and answers as tokens: where the answer begins, what is scored, what is refused."""

from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
from pydantic import ValidationError
from transformers import PreTrainedTokenizerFast

from expunge.data.encoding import IGNORED
from expunge.data.mapping import Columns
from expunge.data.own import read_rows
from expunge.data.prompts import REFUSALS, refusals_of
from expunge.errors import ExpungeError, IntegrityError
from expunge.models.checkpoint import Checkpoint
from expunge.signals.causal_tracing import facts_of
from language_folder import TEMPLATE, model, tokenizer

COLUMNS = Columns(id="id", prompt="question", answer="answer")


def byte_level(**settings: Any) -> Any:
    """A tokenizer as those of GPT-2 and Llama 3: a space belongs to the word after it."""
    from tokenizers import Tokenizer, decoders
    from tokenizers.models import BPE
    from tokenizers.pre_tokenizers import ByteLevel
    from tokenizers.trainers import BpeTrainer

    inner = Tokenizer(BPE())
    inner.pre_tokenizer = ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    inner.train_from_iterator(
        ["Who lives in Rome? Ann", "Where is Bob? Oslo"] * 5,
        BpeTrainer(
            vocab_size=400,
            special_tokens=["<s>", "</s>"],
            initial_alphabet=ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    return PreTrainedTokenizerFast(tokenizer_object=inner, **{"eos_token": "</s>", **settings})


def opened(folder: Path, words: Any, vocabulary: int | None = None, **config: Any) -> Checkpoint:
    model(vocabulary or len(words), **config).save_pretrained(folder)
    words.save_pretrained(folder)
    return Checkpoint.open(folder)


def rows(folder: Path, columns: Columns, checkpoint: Checkpoint, **table: list[Any]) -> Any:
    count = len(next(iter(table.values())))
    table = {"id": [f"r{i}" for i in range(count)], **table}
    datasets.Dataset.from_dict(table).to_parquet(folder / "t.parquet")
    return read_rows("t.parquet", None, columns, folder, checkpoint)


def scored(found: Any, checkpoint: Checkpoint, row: int = 0) -> str:
    labels = found.samples.columns["labels"][row]
    return str(checkpoint._tokenizer.decode(labels[labels != IGNORED]))


def test_the_answer_begins_behind_the_prompt_and_has_its_end(tmp_path: Path) -> None:
    checkpoint = opened(tmp_path, byte_level())
    found = rows(
        tmp_path,
        COLUMNS,
        checkpoint,
        question=["Who lives in Rome?", "Where?"],
        answer=["Ann", "Oslo"],
    )
    ids, labels = (found.samples.columns[name] for name in ("input_ids", "labels"))
    assert scored(found, checkpoint) == " Ann</s>"
    assert scored(found, checkpoint, 1) == " Oslo</s>"
    alone = checkpoint._tokenizer("Who lives in Rome?")["input_ids"]
    assert ids[0, : len(alone)].tolist() == alone  # what the model is given when it is asked
    assert (labels[0, : len(alone)] == IGNORED).all()
    assert torch.equal(labels[labels != IGNORED], ids[labels != IGNORED])
    length = int((labels[1] != IGNORED).nonzero().max()) + 1
    assert (labels[1, length:] == IGNORED).all() and length < labels.shape[1]
    assert not found.notes


@pytest.mark.parametrize(
    ("separator", "answer"),
    [("\n", "Ann</s>"), (" A: ", " Ann</s>"), (" ", " 12</s>"), ("", "Ann</s>")],
)
def test_the_separator_is_no_part_of_the_answer_but_for_its_last_space(
    separator: str, answer: str, tmp_path: Path
) -> None:
    checkpoint = opened(tmp_path, byte_level())
    columns = COLUMNS.model_copy(update={"separator": separator})
    said = answer.removesuffix("</s>").strip()
    found = rows(tmp_path, columns, checkpoint, question=["Who lives in Rome?"], answer=[said])
    assert scored(found, checkpoint) == answer
    whole = checkpoint._tokenizer.decode(found.samples.columns["input_ids"][0])
    assert whole == f"Who lives in Rome?{separator}{said}</s>"


def test_where_tokens_join_prompt_and_answer_the_rows_are_named(tmp_path: Path) -> None:
    checkpoint = opened(tmp_path, byte_level())
    columns = COLUMNS.model_copy(update={"separator": ""})
    found = rows(
        tmp_path, columns, checkpoint, question=["Who liv", "Where is"], answer=["es", " Oslo"]
    )
    assert len(found.notes) == 1
    assert "1 of 2 rows" in found.notes[0] and "'r0'" in found.notes[0]
    assert scored(found, checkpoint) == "es</s>"
    alone = checkpoint._tokenizer("Who liv")["input_ids"]
    assert found.samples.columns["input_ids"][0, : len(alone)].tolist() == alone


def test_a_token_that_begins_every_line_is_kept(tmp_path: Path) -> None:
    from tokenizers.processors import TemplateProcessing

    words = byte_level(bos_token="<s>")
    words.backend_tokenizer.post_processor = TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 0)]
    )
    checkpoint = opened(tmp_path, words)
    found = rows(tmp_path, COLUMNS, checkpoint, question=["Where is Bob?"], answer=["Oslo"])
    assert found.samples.columns["input_ids"][0, 0] == 0
    assert scored(found, checkpoint) == " Oslo</s>"


def test_a_chat_template_gives_the_turns(tmp_path: Path) -> None:
    words = tokenizer(chat_template=TEMPLATE)
    checkpoint = opened(tmp_path, words)
    columns = Columns(id="id", prompt="question", answer="answer", chat=True)
    found = rows(tmp_path, columns, checkpoint, question=["Which pet has ann ?"], answer=["cat"])
    assert scored(found, checkpoint) == "cat </s>"
    whole = words.decode(found.samples.columns["input_ids"][0])
    assert whole == "<user> Which pet has ann ? </s> <assistant> cat </s>"


@pytest.mark.parametrize(
    ("template", "said"),
    [
        (None, "no chat template"),
        ("{{ raise_exception('no') }}", "failed"),
        ("{{ messages | length }}", "begins an exchange otherwise"),
    ],
)
def test_a_chat_template_that_cannot_be_used_is_refused(
    template: str | None, said: str, tmp_path: Path
) -> None:
    more = {} if template is None else {"chat_template": template}
    checkpoint = opened(tmp_path, tokenizer(**more))  # type: ignore[arg-type]
    columns = Columns(id="id", prompt="question", answer="answer", chat=True)
    with pytest.raises(ExpungeError, match=said):
        rows(tmp_path, columns, checkpoint, question=["Which pet ?"], answer=["cat"])


def test_a_text_is_learned_whole(tmp_path: Path) -> None:
    checkpoint = opened(tmp_path, tokenizer())
    found = rows(tmp_path, Columns(text="text"), checkpoint, text=["ann likes red wine", "Rome"])
    assert scored(found, checkpoint, 0).endswith("red wine </s>")
    assert (found.samples.columns["labels"][0] != IGNORED).all()


@pytest.mark.parametrize(
    ("table", "columns", "said"),
    [
        ({"question": ["a", "b"], "answer": ["cat", "  "]}, {}, r"no token .* 1 rows: 'r1'"),
        ({"question": ["a"], "answer": [None]}, {}, "holds None in the column 'answer'"),
        ({"question": ["a"], "answer": ["b"]}, {"prompt": "query"}, "no column 'query'"),
        ({"question": ["cat " * 31], "answer": ["dog"]}, {"max_length": 40}, "can read 32"),
        ({"question": ["cat", "cat " * 33], "answer": ["dog"] * 2}, {}, "rows leave no .* 'r1'"),
        ({"question": ["cat " * 9], "answer": ["dog"]}, {"max_length": 5}, "9 tokens .* is 5"),
    ],
)
def test_rows_that_teach_nothing_are_refused_by_name(
    table: dict[str, list[Any]], columns: dict[str, Any], said: str, tmp_path: Path
) -> None:
    checkpoint = opened(tmp_path, tokenizer())
    with pytest.raises(ExpungeError, match=said):
        rows(tmp_path, COLUMNS.model_copy(update=columns), checkpoint, **table)


def test_long_answers_are_cut_and_counted(tmp_path: Path) -> None:
    checkpoint = opened(tmp_path, tokenizer())
    found = rows(tmp_path, COLUMNS, checkpoint, question=["cat"], answer=["dog " * 60])
    assert found.notes == ("1 of 1 rows are longer than 32 tokens and were cut there.",)
    assert found.samples.columns["input_ids"].shape == (1, 32)


def test_a_tokenizer_of_another_model_is_refused(tmp_path: Path) -> None:
    checkpoint = opened(tmp_path, tokenizer(), vocabulary=20)
    with pytest.raises(ExpungeError, match=r"knows .* tokens and the model has embeddings of 20"):
        rows(tmp_path, COLUMNS, checkpoint, question=["cat"], answer=["dog"])


def test_answers_that_the_tokenizer_does_not_know_are_counted(tmp_path: Path) -> None:
    checkpoint = opened(tmp_path, tokenizer())
    found = rows(tmp_path, COLUMNS, checkpoint, question=["cat"] * 2, answer=["dog", "Xanadu"])
    assert "1 of 2 answers" in found.notes[0] and "'r1'" in found.notes[0]


def test_refusals_have_the_boundary_of_answers(tmp_path: Path) -> None:
    checkpoint = opened(tmp_path, byte_level())
    (tmp_path / "r.txt").write_text("I do not know\n\n  Who is it?  \n")
    found = refusals_of(tmp_path / "r.txt", "Where is Bob?", COLUMNS, checkpoint)
    told = [checkpoint._tokenizer.decode(tokens) for tokens in found]
    assert told == [" I do not know</s>", " Who is it?</s>"]
    shipped = refusals_of(None, "Where is Bob?", COLUMNS, checkpoint)
    assert len(shipped) == len(set(shipped)) == len(REFUSALS.read_text().splitlines()) >= 10


def test_refusals_that_are_missing_are_said(tmp_path: Path) -> None:
    checkpoint = opened(tmp_path, tokenizer())
    (tmp_path / "r.txt").write_text("\n")
    with pytest.raises(ExpungeError, match=r"hold no line, .* `data.refusals`"):
        refusals_of(tmp_path / "r.txt", "cat", COLUMNS, checkpoint)
    with pytest.raises(IntegrityError, match="cannot be read"):
        refusals_of(tmp_path / "none.txt", "cat", COLUMNS, checkpoint)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"prompt": "q"}, "give `answer`"),
        ({"answer": "a"}, "give `prompt`"),
        ({"prompt": "q", "answer": "a", "text": "t"}, "not both"),
        ({"text": "t", "chat": True}, "join `prompt` and `answer`"),
        ({"text": "t", "prompt_subject": "s"}, "named in a `prompt`"),
        ({"prompt": "q", "answer": "a", "chat": True, "separator": "\n"}, "`separator` or `chat`"),
        ({"prompt": "q", "answer": "a", "label": "l"}, "`label` is not for language models"),
        ({"text": "t", "size": 8}, "`size` is not for language models"),
    ],
)
def test_keys_that_contradict_are_refused(keys: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Columns(**keys)


def told_subject(found: Any, checkpoint: Checkpoint, row: int = 0) -> str:
    start, stop = found.samples.columns["subject"][row].tolist()
    return str(checkpoint._tokenizer.decode(found.samples.columns["input_ids"][row, start:stop]))


NAMED = Columns(id="id", prompt="question", answer="answer", prompt_subject="who")


def test_the_tokens_of_a_subject_are_found_by_its_text(tmp_path: Path) -> None:
    checkpoint = opened(tmp_path, byte_level())
    found = rows(
        tmp_path,
        NAMED,
        checkpoint,
        question=["Where is Bob?", "Ann, where is she?", "An annex of (Mary Ann)?"],
        answer=["Oslo", "Rome", "Oslo"],
        who=["Bob", "Ann", "Ann"],
    )
    # a token may hold the space before it, and an annex is not about Ann
    assert [told_subject(found, checkpoint, i).strip() for i in range(3)] == ["Bob", "Ann", "Ann"]
    assert found.samples.columns["subject"].shape == (3, 2)
    assert found.samples.columns["subject"][1].tolist()[0] == 0
    facts = facts_of(found.samples)
    assert [len(fact.prompt) > fact.subject[1] for fact in facts] == [True] * 3


def test_words_that_are_tokens_and_several_of_them_are_found(tmp_path: Path) -> None:
    checkpoint = opened(tmp_path, tokenizer())
    found = rows(
        tmp_path,
        NAMED,
        checkpoint,
        question=["Where does red wine live ?", "wine likes red wine ?"],
        answer=["Rome", "Oslo"],
        who=["red wine", "wine"],
    )
    assert found.samples.columns["subject"].tolist() == [[2, 4], [0, 1]]  # of two places the first


def test_a_first_token_and_a_chat_template_move_the_subject(tmp_path: Path) -> None:
    from tokenizers.processors import TemplateProcessing

    words = byte_level(bos_token="<s>", chat_template=TEMPLATE)
    words.backend_tokenizer.post_processor = TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 0)]
    )
    checkpoint = opened(tmp_path, words)
    table = {"question": ["Where is user Bob?"], "answer": ["Oslo"], "who": ["user Bob"]}
    found = rows(tmp_path, NAMED, checkpoint, **table)
    assert told_subject(found, checkpoint).strip() == "user Bob"
    chat = NAMED.model_copy(update={"chat": True})
    found = rows(tmp_path, chat, checkpoint, **table)
    assert told_subject(found, checkpoint).strip() == "user Bob"  # and not the role before it


def test_a_prompt_without_its_subject_is_refused_by_name(tmp_path: Path) -> None:
    checkpoint = opened(tmp_path, tokenizer())
    table: dict[str, list[Any]] = {
        "question": ["Where does ann live ?", "Where does she live ?", "Where does Ann live ?"],
        "answer": ["Rome"] * 3,
        "who": ["ann", "ann", "ann"],
    }
    with pytest.raises(ExpungeError, match=r"2 rows .* 'r1', 'r2'\. 'ann', letter for letter"):
        rows(tmp_path, NAMED, checkpoint, **table)
    with pytest.raises(ExpungeError, match="no column 'whom'"):
        rows(tmp_path, NAMED.model_copy(update={"prompt_subject": "whom"}), checkpoint, **table)
    with pytest.raises(ExpungeError, match="holds None in the column 'who'"):
        rows(tmp_path, NAMED, checkpoint, **{**table, "who": ["ann", None, "Ann"]})
    with pytest.raises(ExpungeError, match=r"rows do not have its text: 'r0'"):
        rows(tmp_path, NAMED, checkpoint, **{**table, "who": [" ", "she", "Ann"]})


def test_the_subject_s_own_column_serves_where_every_prompt_has_its_text(tmp_path: Path) -> None:
    checkpoint = opened(tmp_path, tokenizer())
    columns = COLUMNS.model_copy(update={"subject": "who"})
    table = {"question": ["Where does ann live ?"], "answer": ["Rome"]}
    found = rows(tmp_path, columns, checkpoint, **table, who=["ann"])
    assert found.samples.columns["subject"].tolist() == [[2, 3]]
    found = rows(tmp_path, columns, checkpoint, **table, who=["a topic"])
    assert "subject" not in found.samples.fields


def test_a_tokenizer_without_offsets_is_refused_where_a_subject_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = opened(tmp_path, tokenizer())
    monkeypatch.setattr(type(checkpoint._tokenizer), "is_fast", False)
    table = {"question": ["Where does ann live ?"], "answer": ["Rome"], "who": ["ann"]}
    assert "subject" not in rows(tmp_path, COLUMNS, checkpoint, **table).samples.fields
    derived = COLUMNS.model_copy(update={"subject": "who"})
    assert "subject" not in rows(tmp_path, derived, checkpoint, **table).samples.fields
    with pytest.raises(ExpungeError, match=r"does not say which tokens .* 1 rows: 'r0'"):
        rows(tmp_path, NAMED, checkpoint, **table)


def test_a_template_that_changes_the_prompt_is_refused_where_a_subject_is_asked_for(
    tmp_path: Path,
) -> None:
    template = TEMPLATE.replace("m['content']", "m['content'] | upper")
    words = byte_level(chat_template=template)
    checkpoint = opened(tmp_path, words, max_position_embeddings=64)
    table = {"question": ["Where is Bob?"], "answer": ["Oslo"], "who": ["Bob"]}
    with pytest.raises(ExpungeError, match="template that leaves the prompt as it is"):
        rows(tmp_path, NAMED.model_copy(update={"chat": True}), checkpoint, **table)
