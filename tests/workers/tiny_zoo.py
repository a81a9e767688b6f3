"""Tiny random Llamas with a byte-level tokenizer, and local tasks of two kinds."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path

os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}  # before Hugging Face is imported

import yaml

from evals.suite import Split, Suite
from search.spec import Objective
from tests.tiny import save_llama
from workers.messages import Zoo


def make_zoo(folder: Path, *, dtype: str = "float32", parents: int = 2) -> Zoo:
    """A base of random weights and parents that have learned a little; heads are tied."""
    names = ["base", *(f"p{index}" for index in range(parents))]
    for learned, name in enumerate(names):
        save_llama(folder / name, seed=0, dtype=dtype, learned=learned or None)
    return Zoo(str(folder / "base"), tuple((n, str(folder / n)) for n in names[1:]), dtype)


def make_suite(folder: Path, split: Split = Split.SEARCH) -> Suite:
    """A multiple-choice task and one that is scored by likelihood, lower is better."""
    tasks, data = folder / "tasks", folder / "data"
    tasks.mkdir(parents=True)
    data.mkdir()
    rng = random.Random(0)
    files = {}
    for name, count in (("search", 12), ("select", 5), ("report", 60)):
        rows = [
            {
                "question": _word(rng, 8),
                "choices": [_word(rng, 3) for _ in range(3)],
                "label": rng.randrange(3),
                "text": _word(rng, 20),
            }
            for _ in range(count)
        ]
        files[name] = str(data / f"{name}.jsonl")
        Path(files[name]).write_text("".join(json.dumps(row) + "\n" for row in rows))
    shared = {
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": files},
        "training_split": "search",
        "validation_split": "select",
        "test_split": "report",
    }
    choice = {
        "task": "tiny_choice",
        "output_type": "multiple_choice",
        "doc_to_text": "{{question}}",
        "doc_to_choice": "choices",
        "doc_to_target": "label",
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    }
    text = {
        "task": "tiny_text",
        "output_type": "loglikelihood_rolling",
        "doc_to_text": "",
        "doc_to_target": "{{text}}",
        "metric_list": [
            {"metric": "bits_per_byte", "aggregation": "bits_per_byte", "higher_is_better": False}
        ],
    }
    for task in (choice, text):
        (tasks / f"{task['task']}.yaml").write_text(yaml.safe_dump(shared | task))
    objectives = (
        Objective(task="tiny_choice", metric="acc"),
        Objective(task="tiny_text", metric="bits_per_byte"),
    )
    return Suite(objectives, split, (str(tasks),))


def _word(rng: random.Random, length: int) -> str:
    return "".join(rng.choice("abcdefgh") for _ in range(length))
