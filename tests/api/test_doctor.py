"""The doctor looks at the models of a spec file, without any server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from api.schemas import DoctorReport
from tests.commands import run
from tests.tiny import save_llama
from tests.workers.tiny_zoo import make_suite

DOWN, UP, GATE = (f"model.layers.0.mlp.{part}_proj.weight" for part in ("down", "up", "gate"))


@pytest.fixture
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A spec beside its models, far from any model root."""
    monkeypatch.setenv("NICHEMERGE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NICHEMERGE_MODEL_ROOTS", str(tmp_path / "home"))
    make_suite(tmp_path / "home")
    for learned, name in enumerate(("base", "one", "two")):
        save_llama(tmp_path / "models" / name, seed=0, learned=learned or None)
    document: dict[str, Any] = {
        "name": "looked-at",
        "base": {"path": "models/base"},
        "parents": [{"name": name, "path": f"models/{name}"} for name in ("one", "two")],
        "method": "task_arithmetic",
        "space": {"parameters": {"weight": {"low": 0.0, "high": 1.0}}},
        "objectives": [{"task": "tiny_choice", "metric": "acc"}],
        "optimizer": {"name": "uniform"},
        "budget": {"evaluations": 20},
    }
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump(document))
    return tmp_path / "spec.yaml"


def change(spec: Path, name: str, **changes: torch.Tensor) -> None:
    file = spec.parent / "models" / name / "model.safetensors"
    save_file({**load_file(file), **changes}, file, metadata={"format": "pt"})


def permute(spec: Path, name: str) -> dict[str, torch.Tensor]:
    """Reverse the neurons of an MLP; the weights as they were."""
    before = load_file(spec.parent / "models" / name / "model.safetensors")
    moved = {UP: before[UP].flip(0), GATE: before[GATE].flip(0), DOWN: before[DOWN].flip(1)}
    change(spec, name, **{key: tensor.contiguous() for key, tensor in moved.items()})
    return before


def test_good_models_are_described(spec: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "doctor", spec)
    assert (code, err) == (0, "")
    for text in ("LlamaForCausalLM", "tied to the embedding", "the whole budget", "12 examples"):
        assert text in out


def test_for_programs_there_is_one_json_document(
    spec: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = run(capsys, "doctor", spec, "--weights", "--json")
    report = DoctorReport.model_validate_json(out)
    assert code == 0
    assert report.valid
    assert report.genes == 2
    assert [model.name for model in report.models] == ["base", "one", "two"]
    assert report.needs is not None
    assert report.needs.disk_bytes == report.checkpoint_bytes > 0
    assert [diagnosis.name for diagnosis in report.diagnoses] == ["one", "two"]
    ratio = report.diagnoses[0].groups["mlp"].delta_ratio
    assert ratio is not None
    assert 0.05 < ratio < 0.15
    assert all(diagnosis.findings == () for diagnosis in report.diagnoses)


def test_weights_are_read_only_when_asked_for(
    spec: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    permute(spec, "two")
    assert run(capsys, "doctor", spec)[0] == 0
    code, out, err = run(capsys, "doctor", spec, "--weights")
    assert code == 1
    assert "permuted mlp" in out
    assert "parents[1].path: has the neurons of its MLPs in another order" in err


def test_everything_that_is_wrong_is_listed_beside_what_is_known(
    spec: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = yaml.safe_load(spec.read_text())
    document["method"] = "task_arithmetics"
    document["parents"][1]["path"] = "models/three"
    spec.write_text(yaml.safe_dump(document))
    change(spec, "one", **{UP: torch.zeros(3, 3)})
    code, out, err = run(capsys, "doctor", spec, "--weights")
    assert code == 1
    assert "method: unknown merge method 'task_arithmetics'" in err
    assert "parents[1].path: there is no folder" in err
    assert "parents[0].path: has other shapes than the base" in err
    assert "LlamaForCausalLM" in out


@pytest.mark.parametrize("text", ["", "[", "name: [", "\x00", "just words"])
def test_a_file_that_is_no_spec_is_told_in_words(
    spec: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    spec.write_text(text)
    code, _, err = run(capsys, "doctor", spec)
    assert code in (1, 2)
    assert err
    assert "Traceback" not in err


def test_a_parent_is_realigned_and_then_fine(
    spec: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = permute(spec, "two")
    out = spec.parent / "models" / "aligned"
    code, answer, _ = run(capsys, "doctor", spec, "--realign", "two", "--out", out, "--json")
    assert code == 0
    assert "model.safetensors" in json.loads(answer)
    written = load_file(out / "model.safetensors")
    assert all(torch.equal(written[name], tensor) for name, tensor in before.items())
    spec.write_text(spec.read_text().replace("models/two", "models/aligned"))
    assert run(capsys, "doctor", spec, "--weights")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--realign", "two"), "--realign NAME and --out DIR belong together"),
        (("--realign", "twoo", "--out", "x"), "did you mean 'two'"),
        (("--realign", "two", "--out", "x"), "in the base's order and scales already"),
    ],
)
def test_what_cannot_be_realigned_is_said(
    spec: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], says: str
) -> None:
    code, _, err = run(capsys, "doctor", spec, *arguments)
    assert code == 2
    assert says in err
    assert not Path("x").exists()
