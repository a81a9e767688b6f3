from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from evals.playground import OBJECTIVES, Curriculum, Playground, build


class Stopped(RuntimeError):
    """Stands for a kill in the middle of the training."""


def weights(playground: Playground) -> dict[str, bytes]:
    folders = {"base": playground.base, **playground.parents}
    return {name: (f / "model.safetensors").read_bytes() for name, f in folders.items()}


def test_models_and_tokenizers_load_from_their_folders_and_differ(playground: Playground) -> None:
    assert list(playground.parents) == ["arith", "string", "facts"]
    assert len(set(weights(playground).values())) == 4
    for folder in (playground.base, *playground.parents.values()):
        model = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True)
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        assert model.config.model_type == "llama"
        assert model.config.vocab_size == len(tokenizer)
        assert model.generation_config.eos_token_id == tokenizer.eos_token_id
        assert "lm_head.weight" not in load_file(folder / "model.safetensors")
        prompt = tokenizer("12+34=", return_tensors="pt")
        assert torch.isfinite(model(**prompt).logits).all()


def test_tasks_name_their_files_splits_and_metrics(playground: Playground) -> None:
    for objective in OBJECTIVES:
        task = yaml.safe_load((playground.tasks / f"{objective.task}.yaml").read_text())
        assert task["task"] == objective.task
        assert objective.metric in [metric["metric"] for metric in task["metric_list"]]
        splits = task["metadata"]["splits"]
        assert {split: task[f"{role}_split"] for split, role in splits.items()} == {
            "search": "search",
            "select": "select",
            "report": "report",
        }
        for place in task["dataset_kwargs"]["data_files"].values():
            assert Path(place).is_absolute()
            assert all(json.loads(line) for line in Path(place).read_text().splitlines())


def test_a_second_build_trains_nothing(playground: Playground, miniature: Curriculum) -> None:
    steps: list[float] = []
    again = build(
        playground.folder, progress=lambda model, done: steps.append(done), curriculum=miniature
    )
    assert again == playground
    assert steps == []


def test_the_same_seed_gives_the_same_weights_and_another_seed_replaces_them(
    playground: Playground, tmp_path: Path, miniature: Curriculum
) -> None:
    torch.manual_seed(123)
    twin = build(tmp_path / "twin", curriculum=miniature)
    assert weights(twin) == weights(playground)
    other = build(tmp_path / "twin", seed=1, curriculum=miniature)
    assert all(weights(other)[name] != content for name, content in weights(playground).items())


def test_progress_names_every_model_and_ends_at_one(miniature: Curriculum, folder: Path) -> None:
    seen: list[tuple[str, float]] = []
    build(folder, progress=lambda *step: seen.append(step), curriculum=miniature)
    models = [model for model, _ in seen]
    assert models[:5] == ["base"] * 5
    assert sorted(models[5:]) == sorted(["arith", "string", "facts"] * 5)
    assert [done for _, done in seen] == pytest.approx([(i + 1) / 20 for i in range(20)])


def test_an_interrupted_build_leaves_no_folder_and_the_next_one_succeeds(
    playground: Playground, tmp_path: Path, miniature: Curriculum, folder: Path
) -> None:
    def stop(model: str, done: float) -> None:
        if model == "string":
            raise Stopped

    with pytest.raises(Stopped):
        build(folder, progress=stop, curriculum=miniature)
    assert not folder.exists()
    assert weights(build(folder, curriculum=miniature)) == weights(playground)
    assert [place.name for place in tmp_path.iterdir() if place.is_dir()] == ["zoo"]


def test_a_moved_playground_gets_new_paths_and_keeps_its_weights(
    tmp_path: Path, miniature: Curriculum
) -> None:
    old = build(tmp_path / "old", curriculum=miniature)
    before = weights(old)
    new = build(old.folder.rename(tmp_path / "new"), curriculum=miniature)
    assert weights(new) == before
    assert str(tmp_path / "old") not in (new.tasks / "nm_arith.yaml").read_text()


def test_a_folder_of_somebody_else_is_left_alone(tmp_path: Path, miniature: Curriculum) -> None:
    (tmp_path / "thesis.txt").write_text("ten years of work")
    with pytest.raises(FileExistsError, match="no playground"):
        build(tmp_path, curriculum=miniature)
    assert [place.name for place in tmp_path.iterdir()] == ["thesis.txt"]


def test_the_callers_threads_and_random_state_are_left_as_they_were(
    tmp_path: Path, miniature: Curriculum, folder: Path
) -> None:
    threads = torch.get_num_threads()
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    build(folder, curriculum=miniature)
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.rand(3), expected)
