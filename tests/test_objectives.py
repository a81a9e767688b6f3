"""Objectives beyond a metric of a task, from the spec to the checkpoint."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from api.store import Store
from evals.suite import Split
from search.outcome import Scored
from tests.real import attend, client_of, document, make_home, submit
from workers.local_fleet import LocalFleet
from workers.messages import Confirm, Evaluate, Job
from workers.worker import Result, Worker

PARTS = ("tiny_choice", "tiny_odd")
OBJECTIVES = [
    {"task": "tiny_choice", "metric": "acc"},
    {"task": "text:notes.txt", "metric": "kl_to_base", "at_most": 2.0},
    {"task": "tiny_choice", "metric": "kl_to_two"},
    {"task": "weights", "metric": "delta_norm", "weight": 0.5},
    {"task": "weights", "metric": "sparsity"},
]
GROUPED = [{"task": "tiny_all", "metric": "acc"}, {"task": "tiny_text", "metric": "bits_per_byte"}]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """With a text, and a group of two tasks of different length."""
    home = make_home(tmp_path)
    rng = random.Random(1)
    words = ["".join(rng.choice("abcdefgh") for _ in range(4)) for _ in range(160)]
    paragraphs = [" ".join(words[start : start + 8]) for start in range(0, len(words), 8)]
    text = "\n\n".join(paragraphs)
    (home / "tasks/notes.txt").write_text(text + "\n", encoding="utf-8")
    choice = yaml.safe_load((home / "tasks/tiny_choice.yaml").read_text())
    files = {}
    for split, count in (("search", 8), ("select", 4), ("report", 6)):
        lines = (home / f"data/{split}.jsonl").read_text().splitlines()[-count:]
        file = home / f"data/odd_{split}.jsonl"
        file.write_text("\n".join(lines) + "\n")
        files[split] = str(file)
    odd = choice | {"task": "tiny_odd", "dataset_kwargs": {"data_files": files}}
    odd["doc_to_text"] = "odd {{question}}"
    (home / "tasks/tiny_odd.yaml").write_text(yaml.safe_dump(odd))
    write_group(home, weight_by_size=False)
    return home


def write_group(home: Path, *, weight_by_size: bool) -> None:
    average = [{"metric": "acc", "weight_by_size": weight_by_size}]
    group = {"group": "tiny_all", "task": list(PARTS), "aggregate_metric_list": average}
    (home / "tasks/tiny_all.yaml").write_text(yaml.safe_dump(group))


def searched(
    home: Path, store: Store, objectives: list[dict[str, Any]], **changes: Any
) -> tuple[str, int]:
    """The id of a search that ran to its end, and how often something was scored for it."""
    scored: list[Job] = []
    work: Callable[[Job], Result] = Worker().run

    def counting(job: Job) -> Result:
        scored.extend([job] if isinstance(job.work, Evaluate | Confirm) else [])
        return work(job)

    search_id = submit(home, store, document(objectives=objectives, **changes))
    with closing(LocalFleet(counting)) as fleet:
        attend(store, fleet, search_id)
    return search_id, len(scored)


def export(store: Store, search_id: str) -> None:
    """Write the checkpoint that was asked for."""
    with closing(LocalFleet(Worker().run)) as fleet:
        attend(store, fleet, search_id)


def told(home: Path, store: Store, search_id: str, path: str = "") -> Any:
    with client_of(home, store) as client:
        response = client.get(f"/v1/searches/{search_id}{path}")
        assert response.status_code == 200, response.text
        return response.json()


def rows(home: Path, store: Store, search_id: str) -> Any:
    with client_of(home, store) as client:
        content = client.get(f"/v1/searches/{search_id}/examples.parquet").content
    return pq.read_table(io.BytesIO(content)).to_pandas()


def scores(store: Store, search_id: str) -> list[dict[str, Any]]:
    outcomes = store.outcomes(search_id, 0, 1000)
    assert all(isinstance(outcome, Scored) for outcome in outcomes)
    return [dict(outcome.scores) for outcome in outcomes if isinstance(outcome, Scored)]


def test_divergences_and_weights_are_searched_chosen_and_reported(home: Path, store: Store) -> None:
    search_id, measured = searched(home, store, OBJECTIVES, racing=0.05)
    found = told(home, store, search_id)
    assert (found["state"], found["problems"]) == ("finished", [])
    higher = {one["key"]: one["higher_is_better"] for one in found["objectives"]}
    assert [key for key, up in higher.items() if up] == ["tiny_choice/acc", "weights/sparsity"]
    base, one, two, *_ = scores(store, search_id)
    kl = "text:notes.txt/kl_to_base"
    assert base[kl].value == pytest.approx(0, abs=1e-5)
    assert one[kl].value < -1e-3
    assert two["tiny_choice/kl_to_two"].value == pytest.approx(0, abs=1e-5)
    assert (base["weights/delta_norm"].value, base["weights/sparsity"].value) == (0, 1)
    splits = {s["task"]: s["count"] for s in found["splits"] if s["split"] == "search"}
    assert base[kl].count == splits["text:notes.txt"] == 10
    result = found["result"]
    assert set(result["winner"]["reported"]) == set(higher)
    for other in result["comparisons"]:
        gains = other["gains"]
        assert set(gains) == set(higher)
        assert gains[kl]["low"] <= gains[kl]["value"] <= gains[kl]["high"]
        assert gains["weights/sparsity"]["low"] == gains["weights/sparsity"]["high"]
    table = rows(home, store, search_id)
    mean = table[(table.candidate == 1) & (table.split == "search")].groupby(["task", "metric"])
    assert mean.score.mean()["text:notes.txt", "kl_to_base"] == pytest.approx(-one[kl].value)
    assert mean.score.count()["weights", "sparsity"] == 1
    _, again = searched(home, store, OBJECTIVES, racing=0.05)
    assert measured > 0
    assert again == 0, "all of it was known"


def test_what_is_compared_with_a_model_that_has_changed_is_measured_again(
    home: Path, store: Store
) -> None:
    from tests.tiny import save_llama

    objectives = [{"task": "text:notes.txt", "metric": "kl_to_two"}]
    first, _ = searched(home, store, objectives)
    save_llama(home / "models/p1", seed=0, learned=99)
    second, measured = searched(home, store, objectives)
    before, after = scores(store, first), scores(store, second)
    assert before[0] != after[0], "the base itself is the same, and what it is compared with is not"
    assert measured > 0


def test_a_merge_that_was_chosen_by_its_divergence_can_be_had(
    home: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(home)
    search_id, _ = searched(home, store, OBJECTIVES[1:])
    with client_of(home, store) as client:
        path = f"/v1/searches/{search_id}/candidates/3/checkpoint"
        assert client.post(path).status_code == 202
        export(store, search_id)
        found = client.get(path).json()
    assert (found["state"], found["reason"]) == ("stored", None)
    keys = {f"{one['task']}/{one['metric']}" for one in OBJECTIVES[1:]}
    assert set(found["scores"]) == keys
    assert found["scores"]["weights/delta_norm"]["value"] > 0


def test_what_cannot_be_such_an_objective_is_said_with_its_field(home: Path, store: Store) -> None:
    def problems(*objectives: tuple[str, str]) -> dict[str, str]:
        asked = [{"task": task, "metric": metric} for task, metric in objectives]
        with client_of(home, store) as client:
            answer = client.post("/v1/searches:validate", json=document(objectives=asked)).json()
        return {problem["field"]: problem["message"] for problem in answer["problems"]}

    assert problems(("tiny_text", "kl_to_three"), ("tiny_text", "kl_to_base")) == {
        "objectives[0].metric": (
            "is a divergence to 'three', which is no parent; known: base, one, two"
        )
    }
    assert "known: delta_norm, sparsity" in problems(("weights", "size"))["objectives[0].metric"]
    assert problems(("weights", "sparsity")) == {
        "objectives": "ask nothing of the model; name a task, or a text, as well"
    }
    assert "no metric 'kl_to_base'" in problems(("tiny_all", "kl_to_base"))["objectives[0].metric"]


def test_a_group_is_searched_like_a_task(home: Path, store: Store) -> None:
    search_id, _ = searched(home, store, GROUPED, racing=0.05)
    found = told(home, store, search_id)
    assert (found["state"], found["problems"]) == ("finished", [])
    counts = {(s["task"], s["split"]): s["count"] for s in found["splits"]}
    assert [counts["tiny_all", split] for split in Split] == [20, 9, 66]
    assert counts["tiny_odd", "search"] == 8
    parts, _ = searched(home, store, [{"task": part, "metric": "acc"} for part in PARTS])
    for whole, each in zip(scores(store, search_id), scores(store, parts), strict=True):
        halves = [each[f"{part}/acc"] for part in PARTS]
        score = whole["tiny_all/acc"]
        assert score.value == pytest.approx(np.mean([half.value for half in halves]))
        assert score.examples.mean() == pytest.approx(score.value, rel=1e-5)
        assert score.count == 20
        assert score.stderr > 0
    result = found["result"]
    assert result["winner"]["reported"]["tiny_all/acc"]["count"] == 66
    assert all(other["gains"]["tiny_all/acc"]["low"] is not None for other in result["comparisons"])
    duel = told(home, store, search_id, "/candidates/1/comparison?baseline=0&limit=200")
    group = next(one for one in duel["objectives"] if one["key"] == "tiny_all/acc")
    assert group["wins"] + group["losses"] + group["ties"] == 20
    asked = [one["question"] for one in (*group["won"], *group["lost"])]
    assert asked, "control: the two differ on some"
    assert all(asked)
    table = rows(home, store, search_id)
    mine = table[(table.task == "tiny_all") & (table.candidate == 0) & (table.split == "search")]
    assert len(mine) == 20
    assert mine.document.notna().all()


def test_scores_of_a_group_are_known_until_it_or_its_tasks_change(home: Path, store: Store) -> None:
    _, measured = searched(home, store, GROUPED)
    _, again = searched(home, store, GROUPED)
    assert (measured > 0, again) == (True, 0)
    write_group(home, weight_by_size=True)
    _, otherwise = searched(home, store, GROUPED)
    assert otherwise > 0
    file = home / "data/odd_search.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    lines[0]["label"] = (lines[0]["label"] + 1) % 3
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    _, corrected = searched(home, store, GROUPED)
    assert corrected > 0


def test_a_group_that_changes_under_a_search_stops_it(home: Path, store: Store) -> None:
    search_id = submit(home, store, document(objectives=GROUPED))
    work = Worker().run

    def changing(job: Job) -> Result:
        result = work(job)
        write_group(home, weight_by_size=True)
        return result

    with closing(LocalFleet(changing)) as fleet:
        attend(store, fleet, search_id)
    (problem,) = told(home, store, search_id)["problems"]
    assert problem["field"] == "tiny_all"
    assert "no longer those that the search began with" in problem["message"]


def test_a_checkpoint_of_a_search_on_a_group_is_verified(
    home: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(home)
    search_id, _ = searched(home, store, GROUPED)
    with client_of(home, store) as client:
        path = f"/v1/searches/{search_id}/candidates/3/checkpoint"
        client.post(path)
        export(store, search_id)
        found = client.get(path).json()
    assert (found["state"], found["reason"]) == ("stored", None)
    assert found["scores"]["tiny_all/acc"]["count"] == 66
