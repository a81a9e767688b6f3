"""Merging and scoring folders from the command line, without any server."""

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.numpy import load_file
from safetensors.torch import load_file as load_torch

from api.offline import plain_json, write_examples
from tests.commands import run
from tests.tiny import make_model, save_llama
from tests.workers.lora import factors, save_adapter

RECIPE = {
    "method": "linear",
    "parents": ["add", "reverse"],
    "parameters": {"weight": [[0.25, 0.75]], "normalize": False},
    "models": {"base": "base", "add": "add", "reverse": "reverse"},
}


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("zoo")
    for value, name in enumerate(("base", "add", "reverse")):
        make_model(folder / name, value=float(value))
    return folder


@pytest.mark.parametrize("dump", [json.dumps, yaml.safe_dump])
def test_a_recipe_becomes_a_folder(
    zoo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], dump: Any
) -> None:
    (zoo / "recipe.txt").write_text(dump(RECIPE))
    code, out, _ = run(capsys, "merge", zoo / "recipe.txt", "--out", tmp_path / "merged", "--json")
    assert code == 0
    files = json.loads(out)
    assert {"model.safetensors", "config.json", "tokenizer.json", "recipe.json"} <= set(files)
    merged = load_file(tmp_path / "merged" / "model.safetensors")
    assert all(np.all(tensor == 0.25 * 1 + 0.75 * 2) for tensor in merged.values())
    assert json.loads((tmp_path / "merged" / "recipe.json").read_text())["method"] == "linear"


def test_models_may_be_named_on_the_command_line(
    zoo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = {key: value for key, value in RECIPE.items() if key != "models"}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    names = ("base", "add", "reverse")
    models = [word for name in names for word in ("--model", f"{name}={zoo / name}")]
    code, out, _ = run(
        capsys, "merge", tmp_path / "recipe.yaml", "--out", tmp_path / "merged", *models
    )
    assert code == 0
    assert str(tmp_path / "merged") in out


QUERY = "model.layers.0.self_attn.q_proj"
ADAPTERS = {
    "method": "task_arithmetic",
    "parents": ["add", "reverse"],
    "parameters": {"weight": [[0.5, 2.0]]},
    "models": {"base": "base", "add": "lora-add", "reverse": "lora-reverse"},
}


@pytest.fixture
def adapters(zoo: Path, tmp_path: Path) -> Path:
    """A recipe of two adapters of rank 2, and beside it what it names."""
    (tmp_path / "base").symlink_to(zoo / "base")
    for seed, name in enumerate(("add", "reverse")):
        save_adapter(tmp_path / f"lora-{name}", factors({QUERY: (8, 8)}, seed=seed))
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(ADAPTERS))
    return tmp_path / "recipe.yaml"


def test_a_merge_of_adapters_is_a_checkpoint_or_an_adapter(
    zoo: Path, adapters: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(capsys, "merge", adapters, "--out", tmp_path / "whole")[0] == 0
    code, out, _ = run(capsys, "merge", adapters, "--out", tmp_path / "low", "--adapter", "--json")
    assert code == 0
    assert {"adapter_model.safetensors", "adapter_config.json"} <= set(json.loads(out)["files"])
    merged = load_file(tmp_path / "whole" / "model.safetensors")[f"{QUERY}.weight"]
    factor = load_file(tmp_path / "low" / "adapter_model.safetensors")
    a, b = (factor[f"base_model.model.{QUERY}.lora_{part}.weight"] for part in "AB")
    assert a.shape == (4, 8)
    base = load_file(zoo / "base" / "model.safetensors")[f"{QUERY}.weight"]
    np.testing.assert_allclose(merged, base + b @ a, rtol=1e-5, atol=1e-5)
    card = (tmp_path / "low" / "README.md").read_text()
    assert yaml.safe_load(card.split("---\n")[1])["library_name"] == "peft"
    assert str(tmp_path) not in card
    models = yaml.safe_load((tmp_path / "whole" / "mergekit.yaml").read_text())["models"]
    folders = [tmp_path / "base", tmp_path / "lora-add"]
    assert models[0]["model"] == "+".join(map(str, folders))
    # A round trip through that configuration gives the same weights.
    again = tmp_path / "whole" / "mergekit.yaml"
    assert run(capsys, "merge", again, "--out", tmp_path / "again")[0] == 0
    back = load_file(tmp_path / "again" / "model.safetensors")
    assert np.array_equal(back[f"{QUERY}.weight"], merged)


def test_a_truncated_adapter_says_what_it_lost(
    adapters: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("merge", adapters, "--adapter", "--rank", 3, "--out")
    code, out, _ = run(capsys, *arguments, tmp_path / "one")
    assert code == 0
    tensors = [factors({QUERY: (8, 8)}, seed=seed) for seed in range(2)]
    change = sum(
        weight
        * 1.5
        * (
            t[f"base_model.model.{QUERY}.lora_B.weight"]
            @ t[f"base_model.model.{QUERY}.lora_A.weight"]
        )
        for weight, t in zip((0.5, 2.0), tensors, strict=True)
    )
    values = torch.linalg.svdvals(change)
    error = float(values[3:].norm() / values.norm())
    assert f"{error:.2e}  {QUERY}.weight" in out
    assert f"at rank 3: {error:.2e}" in out
    _, out, _ = run(capsys, *arguments, tmp_path / "two", "--json")
    answer = json.loads(out)
    assert answer["error"] == pytest.approx(error, rel=1e-4)
    assert set(answer["errors"]) == {f"{QUERY}.weight"}
    assert f"relative error of the change: {error:.3g}" in (tmp_path / "two/README.md").read_text()


@pytest.mark.parametrize(
    ("change", "options", "says"),
    [
        ({}, ("--rank", 2), "--rank is of an adapter"),
        ({"method": "ties"}, ("--adapter",), "'ties' is no weighted sum of adapters"),
        ({"models": ADAPTERS["models"] | {"add": "base"}}, ("--adapter",), "a whole checkpoint"),
    ],
)
def test_what_cannot_be_an_adapter_is_refused(
    adapters: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: Any,
    options: tuple[Any, ...],
    says: str,
) -> None:
    adapters.write_text(yaml.safe_dump(ADAPTERS | change))
    code, _, err = run(capsys, "merge", adapters, "--out", tmp_path / "out", *options)
    assert code == 2
    assert says in err
    assert not (tmp_path / "out").exists()


def test_a_folder_tells_what_it_was_merged_from(
    zoo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (zoo / "recipe.json").write_text(json.dumps(RECIPE))
    assert run(capsys, "merge", zoo / "recipe.json", "--out", tmp_path / "merged")[0] == 0
    text = (tmp_path / "merged" / "README.md").read_text()
    metadata = yaml.safe_load(text.split("---\n")[1])
    assert metadata["base_model"] == ["base", "add", "reverse"]
    assert metadata["base_model_relation"] == "merge"
    assert metadata["tags"][:2] == ["merge", "nichemerge"]
    for model in ("base", "add", "reverse"):
        digest = hashlib.sha256((zoo / model / "model.safetensors").read_bytes()).hexdigest()
        assert f"{digest}  {model}/model.safetensors" in text
    assert "## Scores" not in text


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"method": "linaer"}, "method: unknown merge method 'linaer'; did you mean 'linear'?"),
        ({"parents": ["add", "revers"]}, "models.revers: is needed"),
        ({"parameters": {"weight": [[1.0, 1.0], [1.0, 1.0]]}}, "2 rows for 1 blocks"),
        ({"models": {"base": "nowhere", "add": "add", "reverse": "reverse"}}, "models.base"),
        ({"models": ["base"]}, "models: maps names to folders"),
        ({"weight": 1}, "weight: unknown field"),
    ],
)
def test_a_wrong_recipe_is_a_line_per_problem(
    zoo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], change: Any, says: str
) -> None:
    (zoo / "wrong.yaml").write_text(yaml.safe_dump({**RECIPE, **change}))
    code, _, err = run(capsys, "merge", zoo / "wrong.yaml", "--out", tmp_path / "merged")
    assert code == 2
    assert says in err
    assert "Traceback" not in err
    assert not (tmp_path / "merged").exists()


MERGEKIT = {
    "merge_method": "task_arithmetic",
    "base_model": "base",
    "models": [
        {"model": "add", "parameters": {"weight": [0.5, 1.0]}},
        {"model": "org/elsewhere", "parameters": {"weight": 0.25}},
    ],
    "parameters": {"int8_mask": True},
    "out_dtype": "bfloat16",
    "dtype": "float32",
}


def test_a_mergekit_configuration_becomes_a_folder(
    zoo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (zoo / "merge.yml").write_text(yaml.safe_dump(MERGEKIT))
    models = ("--model", f"org/elsewhere={zoo / 'reverse'}")
    out = tmp_path / "merged"
    code, _, err = run(capsys, "merge", zoo / "merge.yml", "--out", out, *models)
    assert code == 0
    assert "note: parameters.int8_mask: is left out" in err
    merged = load_torch(out / "model.safetensors")
    # The base is 0, add is 1 and reverse is 2 everywhere; the second layer is the last.
    expected = {"model.embed_tokens.weight": 1.0, "model.layers.1.mlp.up_proj.weight": 1.5}
    for name, value in expected.items():
        assert merged[name].dtype == torch.bfloat16
        assert torch.all(merged[name] == value)
    again = yaml.safe_load((out / "mergekit.yaml").read_text())
    assert again["merge_method"] == "task_arithmetic"


def test_stacked_layers_become_a_folder_with_as_many(
    zoo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    slices = [("add", [0, 2]), ("reverse", [1, 2])]
    stacked = {
        "merge_method": "passthrough",
        "slices": [{"sources": [{"model": m, "layer_range": part}]} for m, part in slices],
        "dtype": "float32",
    }
    (zoo / "stack.yml").write_text(yaml.safe_dump(stacked))
    assert run(capsys, "merge", zoo / "stack.yml", "--out", tmp_path / "out")[0] == 0
    found = load_file(tmp_path / "out" / "model.safetensors")
    for layer, value in enumerate((1.0, 1.0, 2.0)):
        assert np.all(found[f"model.layers.{layer}.mlp.up_proj.weight"] == value)
    assert np.all(found["model.embed_tokens.weight"] == 1.0)
    assert np.all(found["model.norm.weight"] == 2.0)
    assert json.loads((tmp_path / "out" / "config.json").read_text())["num_hidden_layers"] == 3
    # Its own recipe and mergekit's form of it make the same again.
    recipe = json.loads((tmp_path / "out" / "recipe.json").read_text())
    recipe["models"] = {"base": str(zoo / "add"), "reverse": str(zoo / "reverse")}
    (tmp_path / "recipe.json").write_text(json.dumps(recipe))
    for number, file in enumerate((tmp_path / "out" / "mergekit.yaml", tmp_path / "recipe.json")):
        again = tmp_path / f"again{number}"
        assert run(capsys, "merge", file, "--out", again)[0] == 0
        assert (again / "model.safetensors").read_bytes() == (
            tmp_path / "out" / "model.safetensors"
        ).read_bytes()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({}, "models.elsewhere: there is no folder 'org/elsewhere' beside the file; give --model"),
        ({"merge_method": "passthrough"}, "'passthrough' takes one model at a time, not 2"),
        ({"base_model": "nowhere"}, "models.base: there is no folder 'nowhere'"),
        ({"models": []}, "models: has 0; name at least 1"),
    ],
)
def test_a_wrong_mergekit_configuration_is_a_line_per_problem(
    zoo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], change: Any, says: str
) -> None:
    (zoo / "wrong.yml").write_text(yaml.safe_dump(MERGEKIT | change))
    code, _, err = run(capsys, "merge", zoo / "wrong.yml", "--out", tmp_path / "merged")
    assert code == 2
    assert says in err
    assert "Traceback" not in err
    assert not (tmp_path / "merged").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--tasks", "nm_none"), "nm_none"),
        (("--tasks", ""), "--tasks: names no task"),
        (("--tasks", "x", "--split", "repot"), "did you mean 'report'"),
        (("--tasks", "x", "--dtype", "float31"), "did you mean 'float32'"),
        (("--tasks", "x", "--fewshot-as-multiturn"), "needs apply_chat_template"),
        (("--tasks", "x", "--limit", "0"), "--limit: must be above 0"),
    ],
)
def test_what_cannot_be_scored_is_told(
    zoo: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], says: str
) -> None:
    code, _, err = run(capsys, "score", zoo / "base", *arguments)
    assert code == 2
    assert says in err
    assert "Traceback" not in err


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, a task with a group around it, and one with Python beside it."""
    import datasets

    root = tmp_path_factory.mktemp("asked")
    datasets.config.HF_DATASETS_CACHE = root / "cache"
    save_llama(root / "model", seed=1)
    (root / "tasks").mkdir()
    rows = [{"q": f"is {i}", "right": i % 2} for i in range(5)]
    (root / "tasks" / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = {
        "task": "even",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": "rows.jsonl"}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "{{q}}",
        "doc_to_choice": ["even", "odd"],
        "doc_to_target": "right",
        "metadata": {"version": 1.0},
    }
    group = {"group": "numbers", "task": ["even"], "aggregate_metric_list": [{"metric": "acc"}]}
    (root / "tasks" / "even.yaml").write_text(yaml.safe_dump(task))
    (root / "tasks" / "numbers.yaml").write_text(yaml.safe_dump(group))
    (root / "tasks" / "python.yaml").write_text(
        yaml.safe_dump(task | {"task": "own"}) + "process_docs: !function own.same\n"
    )
    (root / "tasks" / "own.py").write_text("def same(documents):\n    return documents\n")
    return root


def test_a_folder_is_scored_as_lm_eval_prints_it(
    asked: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--include-path", asked / "tasks", "--tasks", "numbers", "--num-fewshot", "2")
    code, out, _ = run(capsys, "score", asked / "model", *options)
    assert code == 0
    cells = [[cell.strip() for cell in line.split("|")] for line in out.splitlines()]
    rows = [row[1:6] for row in cells if len(row) > 5 and row[1] not in ("", "Tasks", "Groups")]
    rows = [row for row in rows if not row[0].startswith("-----")]
    assert rows[0][0] == "numbers"
    assert rows[1] == ["- even", "1", "none", "2", "acc"]
    assert "Groups" in out  # and once more the groups alone


def test_examples_and_results_are_written_as_lm_eval_writes_them(
    asked: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    examples = tmp_path / "examples.jsonl"
    where = ("--include-path", asked / "tasks", "--tasks", "even", "--examples", examples)
    how = ("--limit", "3", "--dtype", "float32", "--json")
    code, out, _ = run(capsys, "score", asked / "model", *where, *how)
    assert code == 0
    found = json.loads(out)
    rows = [json.loads(line) for line in examples.read_text().splitlines()]
    assert [row["doc_id"] for row in rows] == [0, 1, 2]
    assert rows[1]["doc"] == {"q": "is 1", "right": 1}
    assert rows[1]["arguments"] == [["is 1", " even"], ["is 1", " odd"]]
    likelihoods = [answer[0] for (answer,) in rows[1]["resps"]]
    assert rows[1]["acc"] == float(likelihoods[1] > likelihoods[0])
    assert found["results"]["even"]["acc,none"] == np.mean([row["acc"] for row in rows])
    assert found["n-samples"]["even"] == {"original": 5, "effective": 3}


def test_python_of_a_task_runs_only_where_the_operator_trusts_its_folder(
    asked: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--include-path", asked / "tasks", "--tasks", "own")
    code, _, err = run(capsys, "score", asked / "model", *options)
    assert code == 2
    assert "process_docs: is Python (!function own.same)" in " ".join(err.split())
    monkeypatch.setenv("NICHEMERGE_TRUSTED_TASK_FOLDERS", str(asked / "tasks"))
    code, out, _ = run(capsys, "score", asked / "model", *options)
    assert code == 0
    assert "own" in out


def test_samples_are_json_lines_of_plain_json(tmp_path: Path) -> None:
    sample = {"doc_id": 3, "acc": np.float64(0.5), "resps": [[(-1.5, True)]], "seen": {"a"}}
    write_examples(tmp_path / "examples.jsonl", {"t": [sample, {"doc_id": 4}]})
    rows = [json.loads(line) for line in (tmp_path / "examples.jsonl").read_text().splitlines()]
    assert rows == [
        {"task": "t", "doc_id": 3, "acc": 0.5, "resps": [[[-1.5, True]]], "seen": ["a"]},
        {"task": "t", "doc_id": 4},
    ]


def test_results_are_json_without_numbers_that_json_lacks() -> None:
    found = plain_json({"t": {"acc,none": np.float32(0.5), "acc_stderr,none": math.nan}})
    assert found == {"t": {"acc,none": 0.5, "acc_stderr,none": None}}
