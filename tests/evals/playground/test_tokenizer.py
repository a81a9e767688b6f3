from __future__ import annotations

from pathlib import Path

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from evals.playground.families import families
from evals.playground.tokenizer import END, PAD, START, train_tokenizer


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    lessons = [lesson for skill in families(seed=0).values() for lesson in skill.lessons]
    return train_tokenizer((lesson.prompt + lesson.answer for lesson in lessons), size=640)


@pytest.mark.parametrize(
    "text",
    ["12+34=46", "reverse a b c d e : e d c b a", "Grüße, 世界 \n\t 🙂", "  two  spaces "],
)
def test_any_text_survives_the_round_trip(tokenizer: PreTrainedTokenizerFast, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_digits_are_tokens_of_their_own_and_no_special_token_is_added(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    assert tokenizer.tokenize("12+345=") == ["1", "2", "+", "3", "4", "5", "="]
    assert len(tokenizer.encode("12+345=")) == 7


def test_a_prompt_is_a_prefix_of_its_lesson_in_tokens(tokenizer: PreTrainedTokenizerFast) -> None:
    for skill in families(seed=0).values():
        for lesson in skill.lessons[:200]:
            prompt = tokenizer.encode(lesson.prompt)
            assert tokenizer.encode(lesson.prompt + lesson.answer)[: len(prompt)] == prompt


def test_a_saved_tokenizer_loads_as_the_same(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path, local_files_only=True)
    assert loaded.get_vocab() == tokenizer.get_vocab()
    text = "the river of bado is kita 19 Grüße"
    assert loaded.encode(text) == tokenizer.encode(text)
    assert loaded.decode(loaded.encode(text)) == text
    assert (loaded.bos_token, loaded.eos_token, loaded.pad_token) == (START, END, PAD)
