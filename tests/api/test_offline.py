"""Merging and scoring folders from the command line, without any server."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.numpy import load_file
from safetensors.torch import load_file as load_torch

from api import cli
from api.offline import FolderScore, write_examples
from tests.tiny import make_model

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


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as left:
        cli.main([str(argument) for argument in arguments])
    text = capsys.readouterr()
    return left.value.code if isinstance(left.value.code, int) else 0, text.out, text.err


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


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({}, "models.elsewhere: there is no folder 'org/elsewhere' beside the file; give --model"),
        ({"merge_method": "passthrough"}, "merge_method: passthrough builds a model"),
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
    ],
)
def test_what_cannot_be_scored_is_told(
    zoo: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], says: str
) -> None:
    code, _, err = run(capsys, "score", zoo / "base", *arguments)
    assert code == 2
    assert says in err
    assert "Traceback" not in err


def test_scores_of_examples_are_json_lines(tmp_path: Path) -> None:
    view = FolderScore(
        key="t/m", value=0.5, stderr=None, count=2, higher_is_better=True, examples=[1.0, None]
    )
    write_examples(tmp_path / "examples.jsonl", [view])
    rows = [json.loads(line) for line in (tmp_path / "examples.jsonl").read_text().splitlines()]
    assert rows == [
        {"key": "t/m", "example": 0, "score": 1.0},
        {"key": "t/m", "example": 1, "score": None},
    ]
