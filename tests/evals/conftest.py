"""A tiny random Llama with a byte-level tokenizer, and local tasks of every kind."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.tiny import save_llama

# Before anything of Hugging Face is imported: these tests never ask the network.
os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}


@dataclass(frozen=True)
class Lab:
    """Where the tasks and their data lie."""

    tasks: Path
    data: Path


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    import datasets

    root = tmp_path_factory.mktemp("lab")
    datasets.config.HF_DATASETS_CACHE = root / "cache"
    made = Lab(root / "tasks", root / "data")
    for folder in (made.tasks, made.data):
        folder.mkdir()
    _write_tasks(made)
    return made


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Reads 96 tokens, writes a start token before everything, ties its embeddings."""
    folder = tmp_path_factory.mktemp("model")
    merges = [("a", "b"), ("c", "d"), ("Ġ", "a"), ("Ġ", "ab"), ("e", "r"), ("t", "h"), ("th", "e")]
    save_llama(folder, seed=7, reads=96, spread=0.15, merges=merges, starts=True)
    return folder


@pytest.fixture
def model(model_folder: Path) -> Any:
    from transformers import LlamaForCausalLM

    return LlamaForCausalLM.from_pretrained(model_folder, dtype="float32")


@pytest.fixture(scope="session")
def tokenizer(model_folder: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(model_folder)


def _words(rng: random.Random, low: int, high: int) -> str:
    letters = "abcdefgh tehr"
    return "".join(rng.choice(letters) for _ in range(rng.randint(low, high))).strip() or "a"


def _write_tasks(lab: Lab) -> None:
    rng = random.Random(3)
    for split, count in (("search", 21), ("select", 9), ("report", 33)):
        rows = [
            {
                "question": _words(rng, 3, 60),
                "choices": [_words(rng, 1, 12) for _ in range(4)],
                "label": rng.randrange(4),
                "answer": _words(rng, 1, 3),
                # some need several windows, one is empty of spaces, one is short
                "text": _words(rng, 2, 260),
            }
            for _ in range(count)
        ]
        (lab.data / f"{split}.jsonl").write_text(
            "".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8"
        )
    shared: dict[str, Any] = {
        "dataset_path": "json",
        "dataset_kwargs": {
            "data_files": {s: str(lab.data / f"{s}.jsonl") for s in ("search", "select", "report")}
        },
        "training_split": "search",
        "validation_split": "select",
        "test_split": "report",
        "doc_to_text": "{{question}}",
    }
    choice = {
        "output_type": "multiple_choice",
        "doc_to_choice": "choices",
        "doc_to_target": "label",
    }
    generate = {
        "output_type": "generate_until",
        "doc_to_target": "answer",
        "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
    }
    tasks: dict[str, dict[str, Any]] = {
        "t_choice": choice
        | {
            "metric_list": [
                {"metric": m, "aggregation": "mean", "higher_is_better": True}
                for m in ("acc", "acc_norm", "acc_bytes", "exact_match", "acc_mutual_info")
            ]
            + [{"metric": "brier_score", "aggregation": "brier_score", "higher_is_better": False}]
        },
        "t_letters": choice
        | {
            "doc_to_choice": ["a", "b", "c", "d"],
            "target_delimiter": "",
            "doc_to_text": "{{question}} answer:",
        },
        "t_shots": choice | {"num_fewshot": 2, "fewshot_delimiter": "\n", "target_delimiter": ">"},
        "t_continue": {
            "output_type": "loglikelihood",
            "doc_to_target": " {{answer}}",
            "metric_list": [
                {"metric": "perplexity", "aggregation": "perplexity", "higher_is_better": False},
                {"metric": "acc", "aggregation": "mean", "higher_is_better": True},
            ],
        },
        "t_text": {
            "output_type": "loglikelihood_rolling",
            "doc_to_text": "",
            "doc_to_target": "{{text}}",
            "metric_list": [
                {
                    "metric": "bits_per_byte",
                    "aggregation": "bits_per_byte",
                    "higher_is_better": False,
                },
                {
                    "metric": "word_perplexity",
                    "aggregation": "weighted_perplexity",
                    "higher_is_better": False,
                },
            ],
        },
        "t_write": generate
        | {
            "num_fewshot": 1,
            "generation_kwargs": {"until": ["e", "ab\n"], "max_gen_toks": 12, "do_sample": False},
        },
        "t_filters": generate
        | {
            "generation_kwargs": {"until": ["\n"], "max_gen_toks": 16},
            "filter_list": [
                {
                    "name": "strict-match",
                    "filter": [
                        {"function": "regex", "regex_pattern": "([a-d])"},
                        {"function": "take_first"},
                    ],
                },
                {
                    "name": "flexible-extract",
                    "filter": [
                        {"function": "regex", "group_select": -1, "regex_pattern": "(.)"},
                        {"function": "take_first"},
                    ],
                },
            ],
        },
    }
    for name, own in tasks.items():
        write_task(lab.tasks / f"{name}.yaml", {"task": name} | shared | own)


def write_task(path: Path, config: dict[str, Any]) -> None:
    path.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")


@pytest.fixture
def add_task(lab: Lab, tmp_path: Path) -> Callable[..., Path]:
    """Writes a multiple-choice task over the lab's data, some keys changed or (None) left out."""

    def add(name: str = "t_own", **changes: Any) -> Path:
        config = {
            "task": name,
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": {"test": str(lab.data / "report.jsonl")}},
            "test_split": "test",
            "output_type": "multiple_choice",
            "doc_to_text": "{{question}}",
            "doc_to_choice": "choices",
            "doc_to_target": "label",
        } | changes
        path = tmp_path / f"{name}.yaml"
        write_task(path, {key: value for key, value in config.items() if value is not None})
        return tmp_path

    return add
