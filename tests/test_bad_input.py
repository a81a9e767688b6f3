"""What users get wrong, and what they are told: one line for each mistake.

Everything is real here: the application, its validation, model folders, task files.
"""

from __future__ import annotations

import json
import os
import pickle
import runpy
import shutil
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from safetensors.numpy import load_file, save_file

from api.store import Store
from tests.real import attend, client_of, document, make_home, submit
from tests.serving import problem_of
from tests.workers.lora import factors, save_adapter
from workers.local_fleet import LocalFleet
from workers.worker import Worker

INDEX = "model.safetensors.index.json"
SHARD = "model-00002-of-00002.safetensors"
WHOLE = "model.safetensors"
UP = "model.layers.1.mlp.up_proj.weight"


@dataclass
class Scene:
    """A spec and the files it is about, all good so far.

    Args:
        spec: about models ``base``, ``p0`` and ``p1``; p1 is sharded.
        home: with folders ``models`` (the only model root), ``tasks`` and ``data``.
        marker: a file that nothing may write.
    """

    spec: dict[str, Any]
    home: Path
    marker: Path

    @property
    def parent(self) -> Path:
        """Folder of the second parent."""
        return self.home / "models" / "p1"


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = make_home(tmp_path_factory.mktemp("good"))
    shard(home / "models" / "p1")
    return home


@pytest.fixture
def scene(good: Path, tmp_path: Path) -> Scene:
    home = tmp_path / "home"
    shutil.copytree(good, home)
    return Scene(document(), home, tmp_path / "marker")


def shard(folder: Path) -> None:
    """Cut the weights of a model into two files and an index."""
    weights = load_file(folder / WHOLE)
    names = sorted(weights)
    parts = {"model-00001-of-00002.safetensors": names[:5], SHARD: names[5:]}
    for file, held in parts.items():
        save_file({n: weights[n] for n in held}, folder / file, metadata={"format": "pt"})
    placed = {name: file for file, held in parts.items() for name in held}
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": placed}))
    (folder / WHOLE).unlink()


# --- How to go wrong ---


def put(path: str, value: Any) -> Callable[[Scene], None]:
    """Write something else into the spec."""

    def spoil(scene: Scene) -> None:
        steps = path.replace("[", ".").replace("]", "").split(".")
        *way, last = [int(step) if step.isdigit() else step for step in steps]
        here: Any = scene.spec
        for step in way:
            here = here[step]
        here[last] = value

    return spoil


def reshape(name: str, shape: tuple[int, ...]) -> Callable[[Scene], None]:
    """Store a tensor of the second parent in another shape."""

    def spoil(scene: Scene) -> None:
        for file in scene.parent.glob("*.safetensors"):
            weights = load_file(file)
            if name in weights:
                weights[name] = np.zeros(shape, np.float32)
                save_file(weights, file, metadata={"format": "pt"})

    return spoil


def trim(density: object) -> Callable[[Scene], None]:
    """Search a method that keeps a fraction of each task vector."""

    def spoil(scene: Scene) -> None:
        scene.spec |= {"method": "ties", "space": {"parameters": {"density": density}}}

    return spoil


def remove_shard(scene: Scene) -> None:
    (scene.parent / SHARD).unlink()


def truncate_shard(scene: Scene) -> None:
    os.truncate(scene.parent / SHARD, (scene.parent / SHARD).stat().st_size - 100)


@dataclass
class Bomb:
    """Writes the marker when it is unpickled."""

    marker: Path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.marker,)


def pickle_weights(scene: Scene) -> None:
    for file in (*scene.parent.glob("*.safetensors"), scene.parent / INDEX):
        file.unlink()
    (scene.parent / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb(scene.marker)))


def want_remote_code(scene: Scene) -> None:
    path = scene.parent / "config.json"
    auto_map = {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"auto_map": auto_map}))
    (scene.parent / "evil.py").write_text(
        f"import os; os.close(os.open({str(scene.marker)!r}, os.O_CREAT))"
    )


def rename_tokens(scene: Scene) -> None:
    path = scene.parent / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    tokenizer["added_tokens"] = []
    tokenizer["model"] |= {"vocab": {f"other{n}": n for n in range(259)}, "merges": []}
    path.write_text(json.dumps(tokenizer))


def cut_by_spaces(scene: Scene) -> None:
    path = scene.parent / "tokenizer.json"
    tokenizer = json.loads(path.read_text()) | {"pre_tokenizer": {"type": "Whitespace"}}
    path.write_text(json.dumps(tokenizer))


def adapt_another(scene: Scene) -> None:
    shutil.rmtree(scene.parent)
    save_adapter(scene.parent, factors({"encoder": (32, 32)}))


def leave_with_dots(scene: Scene) -> None:
    scene.parent.rename(scene.home / "outside")
    scene.spec["parents"][1]["path"] = "../outside"


def leave_absolutely(scene: Scene) -> None:
    scene.parent.rename(scene.home / "outside")
    scene.spec["parents"][1]["path"] = str(scene.home / "outside")


def leave_by_link(scene: Scene) -> None:
    outside = scene.parent.rename(scene.home / "outside")
    scene.parent.symlink_to(outside)


def leave_by_linked_file(scene: Scene) -> None:
    outside = (scene.parent / SHARD).rename(scene.home / SHARD)
    (scene.parent / SHARD).symlink_to(outside)


# What goes wrong, how, the field that is named, what is said of it and what to do.
MISTAKES: dict[str, tuple[Callable[[Scene], None], str, str, str]] = {
    "missing shard": (
        remove_shard,
        "parents[1].path",
        f"{SHARD} is missing",
        "copy the folder again",
    ),
    "truncated shard": (
        truncate_shard,
        "parents[1].path",
        f"{SHARD} is truncated",
        "copy the file again",
    ),
    "pickle weights": (
        pickle_weights,
        "parents[1].path",
        "pytorch_model.bin is a pickle, which can run code",
        "convert it to safetensors",
    ),
    "remote code": (
        want_remote_code,
        "parents[1].path",
        "config.json has an auto_map",
        "Remove auto_map",
    ),
    "another shape": (
        reshape(UP, (65, 32)),
        "parents[1].path",
        f"other shapes than the base in '{UP}': 65x32 for 64x32",
        "name a model that was fine-tuned from this base",
    ),
    "another vocabulary": (
        rename_tokens,
        "parents[1].path",
        "its tokenizer has only 0 of the base's 259 tokens",
        "name a model with the base's",
    ),
    "other rules for text": (
        cut_by_spaces,
        "parents[1].path",
        "its tokenizer cuts text by other rules (pre_tokenizer)",
        "name a model with the base's",
    ),
    "an adapter of another model": (
        adapt_another,
        "parents[1].path",
        "adapter_model.safetensors changes 'encoder.weight'",
        "which the base does not have",
    ),
    "unknown task": (
        put("objectives[0].task", "tiny_choise"),
        "objectives[0].task",
        "unknown task 'tiny_choise'",
        "did you mean 'tiny_choice'?",
    ),
    "unknown metric": (
        put("objectives[0].metric", "f1"),
        "objectives[0].metric",
        "task 'tiny_choice' has no metric 'f1'",
        "known: acc",
    ),
    "unknown method": (
        put("method", "task_arithmatic"),
        "method",
        "unknown merge method 'task_arithmatic'",
        "did you mean 'task_arithmetic'?",
    ),
    "unknown parameter": (
        put("space.parameters.density", 0.5),
        "space.parameters.density",
        "'task_arithmetic' has no such parameter",
        "known: lambda, lines_alpha, lines_beta, normalize, weight",
    ),
    "range upside down": (
        put("space.parameters.weight", {"low": 1.0, "high": 0.0}),
        "space.parameters.weight",
        "low is 1.0 and high is 0.0",
        "low must be below high",
    ),
    "range of nothing": (
        put("space.parameters.weight", {"low": 1.0, "high": 1.0}),
        "space.parameters.weight",
        "low is 1.0 and high is 1.0",
        "low must be below high",
    ),
    "range beyond the limits": (
        trim({"low": 0.2, "high": 20}),
        "space.parameters.density",
        "is 20",
        "a density is the fraction of entries that is kept, in (0, 1]",
    ),
    "logarithm of nothing": (
        put("space.parameters.weight", {"low": 0.0, "high": 1.0, "log": True}),
        "space.parameters.weight",
        "a logarithmic range",
        "must start above 0",
    ),
    "no parents": (
        put("parents", []),
        "parents",
        "has 0",
        "name at least 1",
    ),
    "duplicate parents": (
        put("parents[1].name", "one"),
        "parents",
        "'one' is the name of more than one",
        "give each parent its own name",
    ),
    "duplicate objectives": (
        put("objectives[1]", {"task": "tiny_choice", "metric": "acc"}),
        "objectives",
        "'tiny_choice/acc' is listed more than once",
        "list each objective once",
    ),
    "a path with dots": (
        leave_with_dots,
        "parents[1].path",
        "'../outside' leads outside of the model roots",
        "move the model there",
    ),
    "an absolute path": (
        leave_absolutely,
        "parents[1].path",
        "/outside' leads outside of the model roots",
        "move the model there",
    ),
    "a link": (
        leave_by_link,
        "parents[1].path",
        "'p1' leads outside of the model roots",
        "move the model there",
    ),
    "a link to a file": (
        leave_by_linked_file,
        "parents[1].path",
        f"'{SHARD}' is a link that leads out of the model roots",
        "put the file itself there",
    ),
}


@pytest.mark.parametrize(
    ("spoil", "field", "wrong", "remedy"), MISTAKES.values(), ids=MISTAKES.keys()
)
def test_a_mistake_is_one_problem_that_says_where_what_and_what_to_do(
    scene: Scene,
    store: Store,
    spoil: Callable[[Scene], None],
    field: str,
    wrong: str,
    remedy: str,
) -> None:
    spoil(scene)
    with client_of(scene.home, store) as client:
        validated = client.post("/v1/searches:validate", json=scene.spec)
        submitted = client.post("/v1/searches", json=scene.spec)
        assert nothing_was_stored(client)
    assert (validated.status_code, submitted.status_code) == (200, 422)
    assert validated.json()["valid"] is False
    problems = validated.json()["problems"]
    assert [problem["field"] for problem in problems] == [field], problems
    assert wrong in problems[0]["message"]
    assert remedy in problems[0]["message"]
    assert problem_of(submitted)["errors"] == problems
    assert not scene.marker.exists()


def test_without_a_mistake_there_is_no_problem(scene: Scene, store: Store) -> None:
    """The control of the test above."""
    with client_of(scene.home, store) as client:
        validated = client.post("/v1/searches:validate", json=scene.spec)
        assert validated.json()["problems"] == []
        assert validated.json()["valid"] is True
        assert nothing_was_stored(client), "validation starts nothing"
        assert client.post("/v1/searches", json=scene.spec).status_code == 201
        assert not nothing_was_stored(client)


def test_the_marker_is_written_by_what_must_not_run(scene: Scene) -> None:
    """The control of the marker: this is what unpickling, or importing, would have done."""
    pickle_weights(scene)
    pickle.loads((scene.parent / "pytorch_model.bin").read_bytes())
    assert scene.marker.exists()
    scene.marker.unlink()
    want_remote_code(scene)
    runpy.run_path(str(scene.parent / "evil.py"))
    assert scene.marker.exists()


DEEP = 20_000


@pytest.mark.parametrize("path", ["/v1/searches", "/v1/searches:validate"])
@pytest.mark.parametrize(
    ("media_type", "text"),
    [
        ("application/json", "[" * DEEP),
        ("application/json", "[" * DEEP + "]" * DEEP),
        ("application/json", '{"name":' * DEEP + "1" + "}" * DEEP),
        ("application/yaml", "[" * DEEP),
        ("application/yaml", "[" * DEEP + "]" * DEEP),
        ("application/yaml", "name: " + "{a: " * DEEP),
        ("application/yaml", "- " * DEEP),
    ],
    ids=[
        "json",
        "json-closed",
        "json-mappings",
        "yaml",
        "yaml-closed",
        "yaml-mappings",
        "yaml-list",
    ],
)
def test_twenty_thousand_brackets_are_one_problem(
    good: Path, store: Store, path: str, media_type: str, text: str
) -> None:
    with client_of(good, store) as client:
        response = client.post(path, content=text, headers={"content-type": media_type})
        assert nothing_was_stored(client)
    assert response.status_code == 422
    assert problem_of(response)["errors"] == [
        {"field": "spec", "message": "is nested deeper than 32 levels; a spec needs 5"}
    ]


def test_nan_weights_fail_the_search_before_any_evaluation(scene: Scene, store: Store) -> None:
    weights = load_file(scene.parent / SHARD)
    weights[UP][3, 4] = np.nan
    save_file(weights, scene.parent / SHARD, metadata={"format": "pt"})
    search = searched(scene, store)
    assert search["state"] == "failed"
    assert search["problems"] == [
        {
            "field": f"two/{SHARD}",
            "message": f"'{UP}' holds 1 NaN and 0 infinite values; "
            "export this model again from training",
        }
    ]
    assert search["progress"]["proposed"] == 0


def test_without_nan_weights_the_search_is_finished(scene: Scene, store: Store) -> None:
    """The control of the test above."""
    search = searched(scene, store)
    assert (search["state"], search["problems"]) == ("finished", [])
    assert search["progress"]["scored"] == search["progress"]["evaluations"]


def searched(scene: Scene, store: Store) -> dict[str, Any]:
    """The search of a scene, run to its end by a real worker."""
    search_id = submit(scene.home, store, scene.spec)
    with closing(LocalFleet(Worker().run)) as fleet:
        attend(store, fleet, search_id)
    with client_of(scene.home, store) as client:
        return dict(client.get(f"/v1/searches/{search_id}").json())


def nothing_was_stored(client: TestClient) -> bool:
    return client.get("/v1/searches").json()["items"] == []
