"""nichemerge convert: from a mergekit-evolve file to a spec that the service accepts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from api.conversion import convert_file
from api.settings import Settings
from api.validation import validate
from search.problems import Invalid
from tests.commands import run
from tests.tiny import make_home

EVOLVE = {
    "genome": {
        "models": ["models/add", "models/reverse"],
        "merge_method": "ties",
        "base_model": "models/base",
        "layer_granularity": 1,
        "smooth": True,
    },
    "tasks": [{"name": "nm_pairs", "metric": "acc,none"}],
    "limit": 100,
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models and a task, made once."""
    return make_home(tmp_path_factory.mktemp("home"))


def written(home: Path, document: Any) -> Path:
    path = home / "evolve.yml"
    path.write_text(yaml.safe_dump(document))
    return path


def test_the_spec_validates_against_models_and_tasks(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = tmp_path / "spec.yaml"
    code, _, _ = run(capsys, "convert", written(home, EVOLVE), "--out", spec)
    assert code == 0
    settings = Settings(home=home, model_roots=(home,), task_folders=(home / "tasks",))
    accepted = validate(yaml.safe_load(spec.read_text()), settings)
    assert accepted.submission.zoo.base == str(home / "models" / "base")
    assert accepted.submission.directions == {"nm_pairs/acc,none": True}
    # Weight and density of 2 parents in embedding, 2 layers, final norm and head.
    assert accepted.genes == 2 * 2 * 5


def test_what_has_no_counterpart_is_a_comment(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = run(capsys, "convert", written(home, EVOLVE))
    assert code == 0
    comments = [line for line in out.splitlines() if line.startswith("#")]
    assert comments[0] == "# Converted from evolve.yml"
    assert any(line.startswith("# genome.smooth: ") for line in comments)
    assert any(line.startswith("# limit: ") for line in comments)
    assert yaml.safe_load(out)["name"] == "evolve"


def test_programs_get_spec_and_notes(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys, "convert", written(home, EVOLVE), "--json")
    answer = json.loads(out)
    assert answer["spec"]["method"] == "ties"
    assert {note["field"] for note in answer["notes"]} >= {"genome.smooth", "limit"}


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ({"merge_method": "linear", "models": []}, "nichemerge merge evolve.yml --out DIR"),
        ({"name": "x"}, "genome: is missing: this is no configuration of mergekit-evolve"),
        (["x"], "genome: is missing"),
        (
            {**EVOLVE, "genome": EVOLVE["genome"] | {"base_model": "org/unknown"}},
            "genome.base_model: there is no folder 'org/unknown' beside the file; give --model",
        ),
        ({**EVOLVE, "tasks": []}, "tasks: has 0; name at least 1"),
    ],
)
def test_what_is_no_search_is_told(
    home: Path, capsys: pytest.CaptureFixture[str], document: Any, says: str
) -> None:
    code, out, err = run(capsys, "convert", written(home, document))
    assert code == 2
    assert not out
    assert says in err
    assert "Traceback" not in err


def test_models_of_the_hub_are_pinned_to_a_commit(
    home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    references = tmp_path / "models--org--cached" / "refs"
    references.mkdir(parents=True)
    (references / "main").write_text("c" * 40)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    genome = EVOLVE["genome"] | {"models": [f"org/pinned@{'a' * 40}", "org/cached", "org/here"]}
    text = yaml.safe_dump({**EVOLVE, "genome": genome}).encode()
    spec = convert_file(text, home / "evolve.yml", {"org/here": str(home / "models" / "add")})
    assert spec.document["parents"] == [
        {"name": "pinned", "hub": "org/pinned", "revision": "a" * 40},
        {"name": "cached", "hub": "org/cached", "revision": "c" * 40},
        {"name": "here", "path": str(home / "models" / "add")},
    ]
    with pytest.raises(Invalid, match="pin a model"):
        convert_file(text, home / "evolve.yml", {})
