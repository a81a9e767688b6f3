"""Tasks of every kind for models that know nothing, and a tokenizer to read them with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from tokenizers import Tokenizer, decoders, pre_tokenizers, trainers
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerFast

from search.spec import Objective

EXAMPLES = 400
_SHOWN = 40  # examples to show from
_CHOICES = 4
_ASKED = 9  # words of a question: with what is around it, a context of 16 tokens or so
_SPECIAL = ("<s>", "</s>", "<pad>")

# What is asked, by the name of its task; ``letters`` have one token, other choices several.
KINDS = {
    "choices": "choices of several tokens, no shots",
    "choices_shots": "the same with 4 random shots",
    "choices_fixed": "the same with 4 fixed shots",
    "letters": "choices of one token",
    "writing": "16 tokens of text",
}
_METRICS = {"writing": "exact_match"}


def objective(kind: str) -> Objective:
    """The one metric of a task that is measured."""
    return Objective(task=kind, metric=_METRICS.get(kind, "acc"))


def write_tasks(folder: Path, *, examples: int = EXAMPLES) -> None:
    """Write a task file for each of ``KINDS``; they share their data.

    Args:
        folder: to write to.
        examples: of each task.
    """
    rng = np.random.default_rng(0)
    words = _words(rng)
    files = {}
    for split, count in (("search", _SHOWN), ("select", _SHOWN), ("report", examples)):
        path = folder / f"{split}.jsonl"
        lines = [json.dumps(_example(rng, words)) for _ in range(count)]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        files[split] = str(path.absolute())
    shared: dict[str, Any] = {
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": files},
        "training_split": "search",
        "validation_split": "select",
        "test_split": "report",
        "fewshot_split": "search",
        "doc_to_text": "Question: {{question}}\nAnswer:",
    }
    choices = {
        "output_type": "multiple_choice",
        "doc_to_choice": "choices",
        "doc_to_target": "label",
    }
    fixed = {"num_fewshot": 4, "fewshot_config": {"sampler": "first_n"}}
    options = {"until": ["\n"], "max_gen_toks": 16, "do_sample": False}
    tasks: dict[str, dict[str, Any]] = {
        "choices": choices,
        "choices_shots": choices | {"num_fewshot": 4},
        "choices_fixed": choices | fixed,
        "letters": choices | {"doc_to_choice": ["A", "B", "C", "D"], "target_delimiter": ""},
        "writing": fixed
        | {
            "output_type": "generate_until",
            "doc_to_target": "{{choices[label]}}",
            "generation_kwargs": options,
            "metric_list": [
                {"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}
            ],
        },
    }
    for name, own in tasks.items():
        text = yaml.safe_dump({"task": name} | shared | own, sort_keys=False)
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")


def write_tokenizer(folder: Path, *, vocabulary: int = 1024) -> None:
    """Write a byte-level tokenizer that takes a token or two for a word of the tasks."""
    rng = np.random.default_rng(0)
    words = _words(rng)
    text = [f"Question: {_said(rng, words, 8)}\nAnswer: A B C D" for _ in range(400)]
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(_SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(text, trainer)
    roles = dict(zip(("bos_token", "eos_token", "pad_token"), _SPECIAL, strict=True))
    fast: Any = PreTrainedTokenizerFast
    fast(tokenizer_object=tokenizer, **roles).save_pretrained(folder)


def _words(rng: np.random.Generator) -> list[str]:
    """As many as a tokenizer of a thousand tokens does not know all of."""
    syllables = [first + vowel for first in "bdfgklmnprst" for vowel in "aeiou"]
    return ["".join(rng.choice(syllables, size=count)) for count in rng.integers(1, 4, size=1500)]


def _example(rng: np.random.Generator, words: list[str]) -> dict[str, Any]:
    # The longest words take several tokens; lm-eval reads choices of one token all at once.
    longest = max(map(len, words))
    choices = [word for word in words if len(word) == longest]
    return {
        "question": _said(rng, words, _ASKED),
        "choices": rng.choice(choices, size=_CHOICES, replace=False).tolist(),
        "label": int(rng.integers(_CHOICES)),
    }


def _said(rng: np.random.Generator, words: list[str], count: int) -> str:
    return " ".join(rng.choice(words, size=count))
