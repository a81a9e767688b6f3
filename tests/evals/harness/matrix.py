"""Tasks of every kind that lm-eval knows, over a few random documents.

Some contexts are longer than the model reads, some are empty, some are not ASCII.
"""

from __future__ import annotations

import json
import random
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

# A template that names roles, marks turns, and wants what the model should write at the end.
CHAT_TEMPLATE = (
    "{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}"
    "{% if not loop.last or add_generation_prompt %}[end]{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)
_LETTERS = "abcdefgh tehré✓"

_ACC = [{"metric": "acc"}, {"metric": "acc_norm"}]
_CHOICE: dict[str, Any] = {
    "output_type": "multiple_choice",
    "doc_to_choice": "choices",
    "doc_to_target": "label",
}
_WRITE: dict[str, Any] = {
    "output_type": "generate_until",
    "doc_to_target": "answer",
    "generation_kwargs": {"until": ["\n", "e"], "max_gen_toks": 8, "do_sample": False},
    "metric_list": [{"metric": "exact_match"}],
}
_SHOTS: dict[str, Any] = {"num_fewshot": 2, "fewshot_split": "shots"}


def _filters(**steps: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"name": name.replace("_", "-"), "filter": listed} for name, listed in steps.items()]


TASKS: dict[str, dict[str, Any]] = {
    "m_every_metric": _CHOICE
    | {
        "metric_list": [
            {"metric": name}
            for name in ("acc", "acc_norm", "acc_bytes", "exact_match", "acc_mutual_info")
        ]
        + [{"metric": "brier_score", "higher_is_better": False}]
    },
    "m_two_choices": _CHOICE
    | {
        "doc_to_choice": "{{choices[:2]}}",
        "doc_to_target": "{{label % 2}}",
        "metric_list": [{"metric": "acc"}, {"metric": "f1"}, {"metric": "mcc"}],
    },
    "m_one_token": _CHOICE
    | {
        "doc_to_text": "{{question}} answer:",
        "doc_to_choice": ["a", "b", "c", "d"],
        "target_delimiter": "",
    },
    "m_other_contexts": _CHOICE
    | {
        "doc_to_text": "{{label % 2}}",
        "doc_to_choice": "{{[question ~ choices[0], question ~ choices[1]]}}",
        "doc_to_target": " {{answer}}",
        "num_fewshot": 1,
        "fewshot_split": "shots",
        "metric_list": [{"metric": "acc"}],
    },
    "m_several_targets": _CHOICE
    | {
        "doc_to_target": "{{[label, 0]}}",
        "num_fewshot": 0,  # lm-eval has no words for a list in front of a question
        "metric_list": [*_ACC, {"metric": "exact_match"}],
    },
    "m_empty_context": _CHOICE | {"doc_to_text": ""},
    "m_long_context": _CHOICE | {"doc_to_text": "{{text * 4}}", "metric_list": _ACC},
    "m_described": _CHOICE
    | _SHOTS
    | {
        "description": "Choose for {{label}}.\n",
        "fewshot_delimiter": "\n###\n",
        "target_delimiter": " -> ",
        "doc_to_text": "{{answer}}",
        "doc_to_choice": ["no", "maybe", "the", "yes"],
    },
    "m_first": _CHOICE
    | _SHOTS
    | {
        "fewshot_config": {"sampler": "first_n", "doc_to_text": "{{answer}}?"},
        "doc_to_text": "{{answer}}",
    },
    "m_written_shots": _CHOICE
    | {
        "num_fewshot": 1,
        "doc_to_text": "{{answer}}",
        "fewshot_config": {
            "sampler": "first_n",
            "samples": [
                {"answer": "ab", "choices": ["cab", "the"], "label": 1},
                {"answer": "cd", "choices": ["é", "the"], "label": 0},
            ],
        },
    },
    "m_among_its_own": _CHOICE
    | {"num_fewshot": 2, "fewshot_split": "eval", "doc_to_text": "{{answer}}"},
    "m_undeclared_shots": _CHOICE
    | {"num_fewshot": 2, "training_split": None, "doc_to_text": "{{answer}}"},
    "m_validation_only": _CHOICE
    | {
        "num_fewshot": 2,
        "validation_split": "eval",
        "test_split": None,
        "doc_to_text": "{{answer}}",
    },
    "m_never_shots": _CHOICE | {"num_fewshot": 0},
    "m_prefix": _CHOICE | _SHOTS | {"gen_prefix": "So:", "doc_to_text": "{{answer}}"},
    "l_last_word": {
        "output_type": "loglikelihood",
        "doc_to_target": " {{answer}}",
        "metric_list": [{"metric": "perplexity"}, {"metric": "acc"}],
    },
    "l_empty_context": {
        "output_type": "loglikelihood",
        "doc_to_text": "",
        "doc_to_target": "{{question}}",
        "metric_list": [{"metric": "perplexity"}, {"metric": "acc"}],
    },
    "r_texts": {
        "output_type": "loglikelihood_rolling",
        "doc_to_text": "",
        "doc_to_target": "{{text}}",
        "metric_list": [
            {"metric": name} for name in ("word_perplexity", "byte_perplexity", "bits_per_byte")
        ],
    },
    "w_filters": _WRITE
    | {
        "doc_to_target": "{{answer[:1]}}",
        "filter_list": _filters(
            strict_match=[
                {"function": "regex", "regex_pattern": "([a-d])"},
                {"function": "take_first"},
            ],
            flexible_extract=[
                {"function": "regex", "group_select": -1, "regex_pattern": "(.)"},
                {"function": "take_first"},
            ],
            upper=[
                {"function": "uppercase"},
                {"function": "map", "mapping_dict": {"": "A"}, "default_value": "a"},
                {"function": "take_first"},
            ],
        ),
    },
    "w_loose_match": _WRITE
    | {
        "doc_to_target": "{{answer[:1] | upper}}!",
        "metric_list": [
            {
                "metric": "exact_match",
                "ignore_case": True,
                "ignore_punctuation": True,
                "regexes_to_ignore": ["[b-z ]", "é"],
            }
        ],
    },
    "w_votes": _WRITE
    | {
        "repeats": 3,
        "filter_list": _filters(
            majority=[
                {"function": "take_first_k", "k": 2},
                {"function": "regex", "regex_pattern": "([a-h])"},
                {"function": "majority_vote"},
                {"function": "take_first"},
            ]
        ),
    },
    "w_several_targets": _WRITE | {"doc_to_target": "{{[answer, answer[:1], 'h']}}"},
    "w_letters": _WRITE
    | {
        "doc_to_text": "{{question}}\nAnswer:",
        "doc_to_target": "{{['(A)', '(B)', '(C)', '(D)'][label]}}",
        "filter_list": _filters(
            letters=[
                {
                    "function": "multi_choice_regex",
                    "regex_pattern": "(\\([A-Z]\\))",
                    "ignore_case": True,
                    "ignore_punctuation": True,
                },
                {"function": "take_first"},
            ]
        ),
    },
    "w_prefix": _WRITE | _SHOTS | {"gen_prefix": "So: {{label}}", "doc_to_text": "{{answer}}"},
    "w_long_context": _WRITE | {"doc_to_text": "{{text * 4}}"},
    "w_overlap": _WRITE
    | {"metric_list": [{"metric": "bleu"}, {"metric": "chrf"}, {"metric": "ter"}]},
}

GROUPS: dict[str, dict[str, Any]] = {
    "all_by_size": {
        "group_alias": "All",
        "task": [
            "m_every_metric",
            "m_few",
            {"task": "m_first", "num_fewshot": 1, "task_alias": "only one shot"},
            "some_alike",
        ],
        "aggregate_metric_list": [{"metric": "acc"}, {"metric": "acc_norm", "filter_list": "none"}],
        "metadata": {"version": 3},
    },
    "some_alike": {
        "task": ["m_tagged", {"group": "inner", "task": ["m_one_token"], "target_delimiter": " "}],
        "aggregate_metric_list": {"metric": "acc", "weight_by_size": False},
        "description": "Together.\n",
    },
    "no_average": {"task": ["l_last_word", "r_texts"]},
}
FEW: dict[str, Any] = _CHOICE | {"test_split": "few"}
TAGGED: dict[str, Any] = _CHOICE | {"tag": ["m_tagged"], "doc_to_text": "{{answer}}:"}

FUNCTIONS: dict[str, Any] = {
    "output_type": "generate_until",
    "generation_kwargs": {"until": ["\n"], "max_gen_toks": 6, "do_sample": False},
    "process_docs": "!function own.last_first",
    "doc_to_text": "!function own.text",
    "doc_to_target": "answer",
    "process_results": "!function own.results",
    "metric_list": [
        {"metric": "length", "aggregation": "!function own.total", "higher_is_better": False},
        {"metric": "starts", "aggregation": "mean", "higher_is_better": True},
    ],
    "filter_list": _filters(
        reversed=[
            {"function": "custom", "filter_fn": "!function own.backwards"},
            {"function": "take_first"},
        ]
    ),
}
PYTHON = """
def last_first(documents):
    return documents.select(range(len(documents) - 1, -1, -1))


def text(doc):
    return doc["question"] + "!"


def results(doc, results):
    written = results[0]
    found = {"length": len(written)}
    return found | {"starts": float(written[:1] == doc["answer"][:1])}


def total(items):
    return float(sum(items))


def backwards(resps, docs):
    return [[answer[::-1] for answer in answers] for answers in resps]
"""


def write(folder: Path) -> Path:
    """All of it, with data; the tasks with Python lie in the folder ``python``."""
    rng = random.Random(11)
    for split, count in (("eval", 6), ("shots", 6), ("few", 5)):
        lines = [json.dumps(_document(rng)) + "\n" for _ in range(count)]
        (folder / f"{split}.jsonl").write_text("".join(lines), encoding="utf-8")
    for name, own in (TASKS | {"m_few": FEW, "m_tagged_1": TAGGED, "m_tagged_2": TAGGED}).items():
        _write(folder / f"{name}.yaml", {"task": name} | _shared(folder) | own)
    for name, own in GROUPS.items():
        _write(folder / f"group_{name}.yaml", {"group": name} | own)
    (folder / "python").mkdir()
    (folder / "python" / "own.py").write_text(textwrap.dedent(PYTHON), encoding="utf-8")
    _write(folder / "python" / "f.yaml", {"task": "f_python"} | _shared(folder) | FUNCTIONS)
    return folder


def _shared(folder: Path) -> dict[str, Any]:
    files = {name: str(folder / f"{name}.jsonl") for name in ("eval", "shots", "few")}
    return {
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": files},
        "training_split": "shots",
        "test_split": "eval",
        "doc_to_text": "{{question}}",
        "metadata": {"version": 2.0},
    }


def _document(rng: random.Random) -> dict[str, Any]:
    return {
        "question": _words(rng, 2, 40),
        "choices": [_words(rng, 1, 10) for _ in range(4)],
        "label": rng.randrange(4),
        "answer": _words(rng, 1, 3),
        "text": _words(rng, 1, 220),
    }


def _words(rng: random.Random, low: int, high: int) -> str:
    return "".join(rng.choice(_LETTERS) for _ in range(rng.randint(low, high))).strip() or "a"


def _write(path: Path, config: Mapping[str, Any]) -> None:
    left = {key: value for key, value in config.items() if value is not None}
    text = yaml.safe_dump(left, sort_keys=False, allow_unicode=True)
    # PyYAML quotes what begins like a tag.
    lines = [line.replace("'!function", "!function") for line in text.splitlines()]
    lines = [line[:-1] if "!function" in line and line[-1] == "'" else line for line in lines]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
