"""A spec is checked against models, tasks and registries; all problems come at once."""

import json
import os
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as configured
from hypothesis import strategies as st

from api import hub
from api.locating import locate
from api.settings import Settings
from api.validation import validate
from search.problems import Invalid, Problem
from search.spec import ModelRef
from tests.tiny import make_home, make_model, tensors


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models and a task, made once."""
    return make_home(tmp_path_factory.mktemp("home"))


@pytest.fixture
def settings(home: Path) -> Settings:
    return Settings(home=home, model_roots=(home / "models",), task_folders=(home / "tasks",))


@pytest.fixture
def document() -> dict[str, Any]:
    return {
        "name": "pairs",
        "base": {"path": "base"},
        "parents": [{"name": "add", "path": "add"}, {"name": "reverse", "path": "reverse"}],
        "method": "ties",
        "space": {"parameters": {"weight": {"low": 0.0, "high": 1.5}, "density": 0.5}},
        "objectives": [{"task": "nm_pairs", "metric": "acc"}],
        "optimizer": {"name": "cma_es"},
        "budget": {"evaluations": 40},
    }


def problems(document: object, settings: Settings) -> dict[str, str]:
    with pytest.raises(Invalid) as caught:
        validate(document, settings)
    assert caught.value.problems
    return {problem.field: problem.message for problem in caught.value.problems}


def test_a_good_spec_becomes_a_submission(document: Any, settings: Settings, home: Path) -> None:
    accepted = validate(document, settings)
    submission = accepted.submission
    assert submission.zoo.base == str(home / "models" / "base")
    assert [name for name, _ in submission.zoo.parents] == ["add", "reverse"]
    assert submission.zoo.dtype == "float32"
    assert submission.directions == {"nm_pairs/acc": True}
    assert submission.task_folders == (str(home / "tasks"),)
    assert accepted.genes == 2
    assert accepted.preflight.parameters == sum(t.size for t in tensors().values())
    assert accepted.preflight.memory_bytes >= 4 * accepted.preflight.checkpoint_bytes


def test_the_test_set_of_a_leaderboard_is_refused_unless_the_spec_says_so(
    document: Any, settings: Settings
) -> None:
    document["objectives"] = [{"task": "gsm8k", "metric": "exact_match,strict-match"}]
    refused = problems(document, settings)
    assert "the test split of openai/gsm8k" in refused["objectives[0].task"]
    document["allow_leaderboards"] = True
    assert validate(document, settings).submission.spec.allow_leaderboards


def test_what_it_would_take_is_told_beside_what_there_is(document: Any, settings: Settings) -> None:
    needs = validate(document, settings).needs
    assert needs.place == "mmap"
    assert needs.disk_bytes == validate(document, settings).preflight.checkpoint_bytes
    assert needs.disk_free_bytes > 0
    assert needs.free.host_bytes > needs.host_bytes + needs.mapped_bytes
    assert "1000 examples" in needs.estimate.basis  # nm_pairs has no data to count
    assert needs.search_s == pytest.approx(40 * needs.estimate.candidate_s, rel=0.5)


def test_a_path_is_told_with_its_largest_model(document: Any, settings: Settings) -> None:
    before = validate(document, settings)
    document["space"]["path"] = {"sources": ["merged", "add"], "repeats": 2}
    accepted = validate(document, settings)
    # Two layers of two models, twice: six layers more than the base has.
    layer = sum(t.size for name, t in tensors().items() if ".layers.0." in name)
    grown = accepted.preflight.checkpoint_bytes - before.preflight.checkpoint_bytes
    assert grown == 6 * 4 * layer
    assert accepted.needs.disk_bytes == accepted.preflight.checkpoint_bytes
    assert accepted.needs.host_bytes == before.needs.host_bytes, "they are where the parents are"
    assert accepted.genes == before.genes + 8
    (warning,) = (w for w in accepted.warnings if w.field == "space.path")
    assert "models have up to 8 layers, the base has 2" in warning.message
    document["space"]["path"]["scale"] = {"low": 0.9, "high": 1.1}
    scaled = validate(document, settings)
    writers = 8 * 8 + 8 * 16  # o_proj and down_proj, of each of eight layers
    more = scaled.preflight.memory_bytes - accepted.preflight.memory_bytes
    assert more == 8 * 4 * writers


def test_a_path_that_no_model_can_take_is_refused(document: Any, settings: Settings) -> None:
    document["space"]["path"] = {"sources": ["merged", "ad"], "repeats": 2}
    assert problems(document, settings) == {
        "space.path.sources[1]": "'ad' is no model of this search; did you mean 'add'?"
    }
    document["space"]["path"] = {"sources": ["add", "add"], "scale": {"low": 0.0, "high": 1.0}}
    assert problems(document, settings) == {
        "space.path.sources": "'add' stands there more than once; repeats say how often layers come"
    }
    document["space"]["path"] = {"scale": {"low": 0.0, "high": 1.0}}
    assert "between 0.1 and 10" in problems(document, settings)["space.path"]
    document["space"]["path"] = {}
    document["parents"][0]["name"] = "merged"
    assert "'merged' is taken" in problems(document, settings)["parents[0].name"]


def test_a_base_that_transformers_cannot_build_is_told(
    document: Any, tmp_path: Path, settings: Settings
) -> None:
    for name in ("base", "add", "reverse"):
        make_model(tmp_path / name, num_attention_heads=3)  # do not divide 8
    elsewhere = settings.model_copy(update={"model_roots": (tmp_path,)})
    document["space"]["path"] = {}
    assert problems(document, elsewhere)["space.path"].startswith("transformers cannot build it")


def test_scales_of_an_architecture_that_loses_them_are_refused(
    document: Any, tmp_path: Path, settings: Settings
) -> None:
    for name in ("base", "add", "reverse"):
        make_model(tmp_path / name, model_type="cohere", architectures=["CohereForCausalLM"])
    elsewhere = settings.model_copy(update={"model_roots": (tmp_path,)})
    document["space"]["path"] = {"scale": {"low": 0.9, "high": 1.1}}
    found = problems(document, elsewhere)
    assert "cannot be folded into weights of 'cohere'" in found["space.path.scale"]


def test_everything_that_is_wrong_comes_at_once(document: Any, settings: Settings) -> None:
    document |= {
        "nmae": "x",
        "base": {"path": "bass"},
        "method": "tise",
        "objectives": [{"task": "nm_pears", "metric": "acc"}],
        "optimizer": {"name": "cma_es", "population": 10, "sigma": "big", "popsize": 3},
    }
    document["parents"][1]["path"] = "../secret"
    found = problems(document, settings)
    assert "did you mean 'name'" in found["nmae"]
    assert "there is no folder 'bass'" in found["base.path"]
    assert "did you mean 'ties'" in found["method"]
    assert "nm_pairs" in found["objectives[0].task"]
    assert "outside of the model roots" in found["parents[1].path"]
    assert any(field.startswith("optimizer.") for field in found)


def test_a_chat_template_that_the_base_lacks_is_a_problem(
    document: Any, settings: Settings, home: Path
) -> None:
    document["evaluation"] = {"apply_chat_template": True}
    (message,) = problems(document, settings).items()
    assert message[0] == "evaluation.apply_chat_template"
    (home / "models" / "base" / "chat_template.jinja").write_text("{{ messages }}")
    assert validate(document, settings).submission.spec.evaluation.apply_chat_template


def change(document: Any, path: str, value: Any) -> None:
    """Put a value at a path such as ``space.parameters.density``."""
    *way, last = path.replace("[", ".").replace("]", "").split(".")
    for step in way:
        document = document[int(step) if step.isdigit() else step]
    document[last] = value


@pytest.mark.parametrize(
    ("path", "value", "field", "says"),
    [
        ("method", "linaer", "method", "did you mean 'linear'"),
        ("method", "slerp", "space.parameters.weight", "no such parameter"),
        ("optimizer", {"name": "cmaes"}, "optimizer.name", "did you mean 'cma_es'"),
        ("optimizer", {"name": "cma_es", "sigm": 1}, "optimizer.sigm", "unknown field"),
        ("space.parameters.density", 20, "space.parameters.density", "is 20"),
        ("space.parameters.weigth", 1.0, "space.parameters.weigth", "did you mean 'weight'"),
        ("space.parameters.weight", {"low": 2, "high": 1}, "space.parameters.weight", "low"),
        ("objectives[0].metric", "acd", "objectives[0].metric", "did you mean 'acc'"),
        ("objectives[0].task", "nm_pair", "objectives[0].task", "did you mean 'nm_pairs'"),
        ("parents", [], "parents", "name at least 1"),
        ("parents[1].name", "add", "parents", "'add' is the name of more than one"),
        ("parents[1].name", "base", "parents[1].name", "always means the base"),
        ("budget.evaluations", 3, "budget.evaluations", "begins with"),
        ("space.parameters.weight", 1.0, "space.parameters", "nothing is searched"),
        ("base", {"hub": "org/name"}, "base", "revision"),
        ("base", {"hub": "org/name", "revision": "0" * 40}, "base.hub", "hf download org/name"),
        ("base", {"hub": "../..", "revision": "0" * 40}, "base.hub", "not in this server's"),
        ("base.path", "../models/../../etc", "base.path", "outside of the model roots"),
        ("base.path", "/etc", "base.path", "outside of the model roots"),
        ("base.path", "nowhere", "base.path", "there is no folder 'nowhere'"),
        ("base.path", "x" * 4000, "base.path", "there is no folder"),
    ],
)
def test_one_mistake_is_one_clear_problem(
    document: Any, settings: Settings, path: str, value: Any, field: str, says: str
) -> None:
    change(document, path, value)
    found = problems(document, settings)
    assert says in found[field], found


@pytest.mark.parametrize("document", [None, [], "x", 1, {}, {"base": 1, "parents": {"a": 1}}])
def test_what_is_no_spec_at_all_is_problems(document: object, settings: Settings) -> None:
    assert problems(document, settings)


def _truncate(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def _remove(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def _pickle(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04N.")


def _remote_code(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoModelForCausalLM": "evil.Model"}
    (folder / "config.json").write_text(json.dumps(config))


def _huge_header(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", 2**60) + b"{}")


@pytest.mark.parametrize("damage", [_truncate, _remove, _pickle, _remote_code, _huge_header])
def test_a_damaged_parent_is_a_problem_with_its_name(
    document: Any, tmp_path: Path, settings: Settings, home: Path, damage: Callable[[Path], None]
) -> None:
    damage(make_model(tmp_path / "damaged"))
    document["parents"][1]["path"] = str(tmp_path / "damaged")
    wider = settings.model_copy(update={"model_roots": (home / "models", tmp_path)})
    found = problems(document, wider)
    assert set(found) == {"parents[1].path"}


def test_another_vocabulary_is_a_note_and_a_foreign_one_a_problem(
    document: Any, tmp_path: Path, settings: Settings, home: Path
) -> None:
    folder = make_model(tmp_path / "wider", rows=40)
    document["parents"][1]["path"] = str(folder)
    wider = settings.model_copy(update={"model_roots": (home / "models", tmp_path)})
    notes = validate(document, wider).warnings
    assert {note.field for note in notes} == {"parents[1].path"}
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["model"]["type"] = "BPE"
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    assert "cuts text by other rules (model)" in problems(document, wider)["parents[1].path"]


def test_a_link_may_not_lead_out_of_the_roots(
    document: Any, tmp_path: Path, settings: Settings, home: Path
) -> None:
    outside = make_model(tmp_path / "outside" / "model")
    root = tmp_path / "root"
    make_model(root / "good")
    (root / "folder").symlink_to(outside)
    make_model(root / "file")
    (root / "file" / "generation_config.json").symlink_to(outside / "config.json")
    narrow = settings.model_copy(update={"model_roots": (home / "models", root)})
    document["parents"][1]["path"] = "good"
    validate(document, narrow)
    for name, says in (("folder", "outside of the model roots"), ("file", "a link that leads out")):
        document["parents"][1]["path"] = name
        assert says in problems(document, narrow)["parents[1].path"]


@pytest.mark.parametrize("revision", ["0123456789" * 4, "main"])
def test_a_cached_hub_revision_is_pinned_to_its_commit(
    document: Any,
    tmp_path: Path,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    revision: str,
) -> None:
    commit = "0123456789" * 4
    monkeypatch.setattr(hub.constants, "HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / "models--org--name"
    make_model(repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    document["parents"][1] = {"name": "reverse", "hub": "org/name", "revision": revision}
    submission = validate(document, settings).submission
    assert submission.zoo.parents[1][1].endswith(commit)
    assert submission.spec.parents[1].revision == commit
    assert submission.spec.base == ModelRef(path="base")
    (found,) = submission.facts["hub"].items()
    assert found == (
        "reverse",
        {"id": "org/name", "revision": revision, "commit": commit, "files": {}},
    )


def test_a_chat_template_may_not_lead_out_of_the_roots(
    document: Any, tmp_path: Path, settings: Settings
) -> None:
    """All templates of the base are copied into exports."""
    base = make_model(tmp_path / "root" / "model")
    (tmp_path / "secret").write_text("")
    (base / "additional_chat_templates").mkdir()
    (base / "additional_chat_templates" / "a.jinja").symlink_to(tmp_path / "secret")
    narrow = settings.model_copy(update={"model_roots": (*settings.roots, tmp_path / "root")})
    document["base"]["path"] = "model"
    assert "a link that leads out" in problems(document, narrow)["base.path"]


pieces = st.sampled_from(
    ["..", ".", "/", "//", "~", "%2e%2e", "\\\\host\\share", "\0", "models", "base", "etc", " "]
)
paths = st.one_of(st.text(min_size=1, max_size=60), st.lists(pieces, min_size=1).map("/".join))


@configured(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(path=paths)
def test_no_path_leads_out_of_the_roots(settings: Settings, path: str) -> None:
    ref = ModelRef.model_construct(path=path, hub=None, revision=None)
    with suppress(Invalid):
        _, folder = locate(ref, "base", settings)
        assert folder.is_relative_to(settings.roots[0])
        assert os.path.realpath(folder) == str(folder)


def test_the_example_of_the_documentation_has_the_right_form(settings: Settings) -> None:
    """Its models and tasks are not there, and that is all that is wrong with it."""
    document = {
        "name": "add-and-reverse",
        "base": {"path": "models/base"},
        "parents": [
            {"name": "add", "path": "models/add"},
            {"name": "reverse", "path": "models/reverse"},
        ],
        "method": "ties",
        "space": {
            "blocks": {"layers": 2, "modules": ["attention", "mlp"]},
            "parameters": {"weight": {"low": 0.0, "high": 1.5}, "density": 0.5},
        },
        "objectives": [
            {"task": "nm_add", "metric": "acc"},
            {"task": "nm_reverse", "metric": "exact_match"},
        ],
        "optimizer": {"name": "m2n2", "population": 20},
        "budget": {"evaluations": 400, "parallel": 8},
        "seed": 0,
    }
    fields = set(problems(document, settings))
    assert fields == {
        "base.path",
        "parents[0].path",
        "parents[1].path",
        "objectives[0].task",
        "objectives[1].task",
    }


def test_problems_are_told_once(document: Any, settings: Settings) -> None:
    document["method"] = "tise"
    with pytest.raises(Invalid) as caught:
        validate(document, settings)
    assert len(caught.value.problems) == len(set(caught.value.problems))
    assert all(isinstance(problem, Problem) for problem in caught.value.problems)
