"""The REST API: what each operation answers, and that every error is a problem document."""

import dataclasses
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import yaml
from fastapi.testclient import TestClient

from api.artifacts import Artifacts
from api.security_headers import CONTENT_SECURITY_POLICY
from api.store import Store, StoreDown
from evals.batching import Batching, Pacing
from tests.analytic import KEYS, submission
from tests.serving import problem_of, recorded, stored
from workers.doctor.summary import DiagnosisSummary, Distance, Finding
from workers.messages import Calibration, Surveyed

SPEC = "/v1/searches"


def submit(client: TestClient, document: Any, **headers: str) -> Any:
    return client.post(SPEC, json=document, headers=headers)


def test_a_submitted_search_can_be_looked_at(client: TestClient, document: Any) -> None:
    answer = submit(client, document)
    assert answer.status_code == 201
    found = client.get(answer.headers["location"]).json()
    assert found == answer.json()
    assert found["state"] == "surveying"
    assert found["spec"]["parents"][0]["name"] == "add"
    assert found["progress"] == {
        "proposed": 0, "scored": 0, "infeasible": 0, "evaluations": 12, "unconfirmed": 0,
        "seconds_left": None,
    }  # fmt: skip


def test_a_spec_is_taken_as_yaml_as_well(client: TestClient, document: Any) -> None:
    headers = {"content-type": "application/yaml; charset=utf-8"}
    answer = client.post(SPEC, content=yaml.safe_dump(document), headers=headers)
    assert answer.status_code == 201


def test_another_media_type_is_refused(client: TestClient) -> None:
    answer = client.post(SPEC, content="<a/>", headers={"content-type": "application/xml"})
    assert answer.status_code == 415
    assert "application/yaml" in problem_of(answer)["detail"]


@pytest.mark.parametrize("media_type", ["application/json", "application/yaml"])
@pytest.mark.parametrize("path", [SPEC, f"{SPEC}:validate"])
def test_twenty_thousand_brackets_are_a_problem(
    client: TestClient, path: str, media_type: str
) -> None:
    answer = client.post(path, content="[" * 20_000, headers={"content-type": media_type})
    assert answer.status_code == 422
    assert "nested" in problem_of(answer)["errors"][0]["message"]


def test_a_body_beyond_the_limit_is_refused(client: TestClient) -> None:
    huge = b'"' + b"x" * 300_000 + b'"'
    answer = client.post(SPEC, content=huge, headers={"content-type": "application/json"})
    assert answer.status_code == 413
    problem_of(answer)

    def pieces() -> Iterator[bytes]:
        yield from (huge[start : start + 1000] for start in range(0, len(huge), 1000))

    unannounced = client.post(SPEC, content=pieces(), headers={"content-type": "application/json"})
    assert unannounced.status_code == 413
    problem_of(unannounced)


def test_all_problems_of_a_spec_come_at_once(client: TestClient, document: Any) -> None:
    document |= {"budged": 1, "seed": -1, "parents": []}
    answer = submit(client, document)
    assert answer.status_code == 422
    fields = {error["field"] for error in problem_of(answer)["errors"]}
    assert fields == {"budged", "seed", "parents"}


def test_validation_says_the_same_without_starting(client: TestClient, document: Any) -> None:
    good = client.post(f"{SPEC}:validate", json=document).json()
    assert good["valid"]
    assert (good["genes"], good["memory_bytes"]) == (12, 864)
    assert good["needs"]["disk_bytes"] == 288
    assert "one worker" in good["needs"]["basis"]
    bad = client.post(f"{SPEC}:validate", json={**document, "seed": -1})
    assert bad.status_code == 200
    assert bad.json()["problems"][0]["field"] == "seed"
    assert client.get(SPEC).json()["items"] == []


def test_an_idempotency_key_makes_repeats_one_search(client: TestClient, document: Any) -> None:
    barrier = threading.Barrier(8)

    def once(_: int) -> Any:
        barrier.wait()
        return submit(client, document, **{"Idempotency-Key": "k"})

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(once, range(8)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["id"] for answer in answers}) == 1
    other = submit(client, {**document, "seed": 9}, **{"Idempotency-Key": "k"})
    assert other.status_code == 422
    assert problem_of(other)["errors"][0]["field"] == "Idempotency-Key"


def test_control_without_a_key_repeats_are_searches(client: TestClient, document: Any) -> None:
    assert submit(client, document).json()["id"] != submit(client, document).json()["id"]


def test_searches_are_paged_newest_first(client: TestClient, store: Store) -> None:
    ids = [recorded(store, 0) for _ in range(5)]
    seen, cursor = [], None
    while True:
        page = client.get(SPEC, params={"limit": 2} | ({"cursor": cursor} if cursor else {})).json()
        seen += [item["id"] for item in page["items"]]
        assert len(page["items"]) <= 2
        if (cursor := page["next"]) is None:
            break
    assert seen == ids[::-1]


def test_a_search_tells_of_its_log(client: TestClient, store: Store) -> None:
    found = client.get(f"{SPEC}/{recorded(store, 9)}").json()
    assert found["state"] == "running"
    assert found["progress"]["scored"] == 8
    assert found["progress"]["infeasible"] == 1
    assert [b["label"] for b in found["baselines"]] == ["base", "add", "reverse", "average"]
    assert found["hypervolume"] == found["hypervolume_history"][-1][1] > 0
    assert found["best"]["on_front"]
    assert found["front_size"] >= 1
    assert found["seq"] == 10


def test_a_search_that_stopped_says_why_until_it_is_extended(
    client: TestClient, store: Store
) -> None:
    search_id = store.create_search(submission(evaluations=40))
    store.append(search_id, "stopped", {"evaluations": 20, "reason": "nothing new"})
    stopped = client.get(f"/v1/searches/{search_id}").json()
    assert (stopped["stopped"], stopped["progress"]["evaluations"]) == ("nothing new", 20)
    order = {"kind": "extend", "evaluations": 5}
    extended = client.post(f"/v1/searches/{search_id}/commands", json=order).json()
    assert (extended["stopped"], extended["progress"]["evaluations"]) == (None, 25)


def test_constraints_are_told_where_they_lie_and_who_misses_them(
    client: TestClient, store: Store
) -> None:
    """The first objective is minimized: at most what the better parent has, that is the lower."""
    objectives = [
        {"task": "add", "metric": "score", "at_most": {"best_parent": 0.0}},
        {"task": "reverse", "metric": "acc", "at_least": {"base": -0.01}},
    ]
    search_id = recorded(store, 9, objectives=objectives, minimized=["add/score"])
    path = f"{SPEC}/{search_id}"
    found = client.get(path).json()
    base, *parents = (b["scores"] for b in found["baselines"][:3])
    most = min(scores["add/score"]["value"] for scores in parents)
    least = base["reverse/acc"]["value"] - 0.01
    bounds = [(o["at_least"], o["at_most"]) for o in found["objectives"]]
    assert bounds == [(None, most), (pytest.approx(least), None)]
    items = client.get(f"{path}/candidates").json()["items"]
    for item in items:
        missed = [
            *(
                ["add/score"]
                if item["scores"] and item["scores"]["add/score"]["value"] > most
                else []
            ),
            *(
                ["reverse/acc"]
                if item["scores"] and item["scores"]["reverse/acc"]["value"] < least
                else []
            ),
        ]
        assert item["violates"] == missed
    assert {tuple(item["violates"]) for item in items} > {()}
    front = client.get(f"{path}/front").json()["items"]
    assert front
    assert all(item["violates"] == [] for item in front)


def test_no_bound_is_told_before_it_is_known(client: TestClient, store: Store) -> None:
    objectives = [{"task": "add", "metric": "score", "at_least": {"best_parent": 0.0}}]
    objectives += [{"task": "reverse", "metric": "acc"}]
    found = client.get(f"{SPEC}/{recorded(store, 2, objectives=objectives)}").json()
    assert found["objectives"][0]["at_least"] is None


def test_what_is_known_of_the_models_is_told_with_the_search(
    client: TestClient, store: Store
) -> None:
    told = {"field": "parents[0].path", "message": "has licence mit, the base apache-2.0"}
    given = dataclasses.replace(submission(), facts={"warnings": [told]})
    search_id = store.create_search(given)
    path = f"{SPEC}/{search_id}"
    before = client.get(path).json()
    assert (before["warnings"], before["diagnoses"]) == ([told], [])
    distance = Distance(0.031, None, 1.0, frozen=0.5)
    summary = DiagnosisSummary(
        "add", distance, {"mlp": distance}, (Finding("far", ("w",)),), ("other",)
    )
    warning = ("parents[1]", "is the base itself")
    store.record_survey(search_id, Surveyed({}, None, (warning,), (summary,)))
    after = client.get(path).json()
    assert after["warnings"] == [told, {"field": "parents[1]", "message": "is the base itself"}]
    figures = {"delta_ratio": 0.031, "cosine": None, "norm_ratio": 1.0, "frozen": 0.5}
    assert after["diagnoses"] == [
        {
            "name": "add",
            "whole": figures,
            "groups": {"mlp": figures},
            "findings": [{"kind": "far", "tensors": ["w"]}],
            "duplicates": ["other"],
        }
    ]


def test_a_search_tells_how_its_forward_passes_are_made(client: TestClient, store: Store) -> None:
    search_id = store.create_search(submission())
    path = f"{SPEC}/{search_id}"
    assert client.get(path).json()["pacing"] is None
    usual, best = Batching(1024, 1), Batching(512, 2)
    found = Calibration({"plan": "p"}, {}, Pacing(best, "a processor", {usual: 0.5, best: 0.25}))
    store.record_survey(search_id, Surveyed({}, None, calibration=found))
    assert client.get(path).json()["pacing"] == {
        "tokens": 512,
        "threads": 2,
        "tried": [
            {"tokens": 1024, "threads": 1, "seconds": 0.5},
            {"tokens": 512, "threads": 2, "seconds": 0.25},
        ],
    }


def test_candidates_are_paged_by_ordinal(client: TestClient, store: Store) -> None:
    path = f"{SPEC}/{recorded(store, 9)}/candidates"
    first = client.get(path, params={"limit": 5}).json()
    second = client.get(path, params={"limit": 5, "after": first["next"]}).json()
    assert [c["ordinal"] for c in first["items"] + second["items"]] == list(range(9))
    assert second["next"] is None
    infeasible = second["items"][0]
    assert infeasible["state"] == "infeasible"
    assert infeasible["reason"] == "the merge is not finite"
    assert infeasible["scores"] == {}


def test_a_candidate_comes_with_its_recipe(client: TestClient, store: Store) -> None:
    found = client.get(f"{SPEC}/{recorded(store, 7)}/candidates/6").json()
    assert found["recipe"]["method"] == "linear"
    assert found["label"] == "#6"
    assert found["timings"] == {"merge_s": 0.1, "forward_s": 0.2, "other_s": 0.3}
    assert set(found["scores"]) == set(KEYS)
    assert "merge_method: linear" in found["mergekit"]


def test_the_front_is_told_for_any_objectives(client: TestClient, store: Store) -> None:
    path = f"{SPEC}/{recorded(store, 12)}/front"
    whole = client.get(path).json()
    assert [o["key"] for o in whole["objectives"]] == list(KEYS)
    one = client.get(path, params={"objectives": KEYS[1]}).json()
    best = max(c["scores"][KEYS[1]]["value"] for c in whole["items"])
    assert {c["scores"][KEYS[1]]["value"] for c in one["items"]} == {best}
    wrong = client.get(path, params={"objectives": "reverse/acd"})
    assert wrong.status_code == 422
    assert "did you mean 'reverse/acc'" in problem_of(wrong)["errors"][0]["message"]


def test_the_best_follows_the_preference(client: TestClient, store: Store) -> None:
    path = f"{SPEC}/{recorded(store, 12)}"
    items = client.get(f"{path}/front").json()["items"]
    for key in KEYS:
        best = client.get(f"{path}/best", params={"weights": f"{key}=1"}).json()
        value = best["scores"][key]["value"]
        assert value == max(c["scores"][key]["value"] for c in items)


@pytest.mark.parametrize(
    "weights", ["x", "=1", "add/score=x", "add/score=-1", "add/score=nan", "add/score=0", "q=1"]
)
def test_weights_that_mean_nothing_are_a_problem(
    client: TestClient, store: Store, weights: str
) -> None:
    path = f"{SPEC}/{recorded(store, 4)}/best"
    answer = client.get(path, params={"weights": weights})
    assert answer.status_code == 422
    assert problem_of(answer)["errors"][0]["field"] == "weights"


def test_there_is_no_best_before_the_first_score(client: TestClient, store: Store) -> None:
    answer = client.get(f"{SPEC}/{recorded(store, 0)}/best")
    assert answer.status_code == 404
    problem_of(answer)


def test_commands_are_entries_of_the_log(client: TestClient, store: Store) -> None:
    search_id = recorded(store, 4)
    path = f"{SPEC}/{search_id}/commands"

    def command(kind: str, **more: int) -> Any:
        return client.post(path, json={"kind": kind, **more})

    assert command("pause").json()["state"] == "paused"
    assert command("pause").json()["state"] == "paused"
    assert command("resume").json()["state"] == "running"
    extended = command("extend", evaluations=8).json()
    assert extended["progress"]["evaluations"] == 20
    assert command("cancel").json()["state"] == "cancelled"
    assert command("cancel").json()["state"] == "cancelled"
    kinds = [event.kind for event in store.events(search_id, outcomes=False)]
    assert kinds == ["surveyed", "pause", "resume", "extend", "cancel"]
    for late in ("pause", "resume"):
        assert command(late).status_code == 409
    assert command("extend", evaluations=1).status_code == 409


@pytest.mark.parametrize(
    "order",
    [
        {"kind": "stop"},
        {"kind": "extend"},
        {"kind": "extend", "evaluations": 0},
        {"kind": "extend", "evaluations": 10**7},
        {"kind": "extend", "evaluations": 999_995},
        {"kind": "pause", "evaluations": 1},
        {"kind": "pause", "why": "?"},
        {},
        [],
    ],
)
def test_a_command_that_makes_no_sense_is_a_problem(
    client: TestClient, store: Store, order: Any
) -> None:
    search_id = recorded(store, 4)
    answer = client.post(f"{SPEC}/{search_id}/commands", json=order)
    assert answer.status_code == 422
    assert problem_of(answer)["errors"]
    assert store.events(search_id, outcomes=False)[-1].kind == "surveyed"


def test_a_checkpoint_is_requested_once(client: TestClient, store: Store) -> None:
    search_id = recorded(store, 6)
    path = f"{SPEC}/{search_id}/candidates/3/checkpoint"
    assert client.get(path).status_code == 404
    for _ in range(2):
        answer = client.post(path)
        assert answer.status_code == 202
        assert answer.json()["state"] == "requested"
    assert client.get(path).json()["state"] == "requested"
    kinds = [event.kind for event in store.events(search_id)]
    assert kinds.count("checkpoint_requested") == 1
    assert client.get(f"{path}/files/config.json").status_code == 409
    store.append(search_id, "checkpoint_failed", {"reason": "disk full"}, ordinal=3)
    assert client.get(path).json()["reason"] == "disk full"
    assert client.get(f"{path}.tar").status_code == 409
    assert client.post(path).json()["state"] == "requested"


def test_a_merge_of_adapters_can_be_had_as_adapters_of_any_rank(
    client: TestClient, store: Store
) -> None:
    search_id = recorded(store, 6, facts={"adapters": ["add", "reverse"]})
    path = f"{SPEC}/{search_id}/candidates/3/checkpoint"
    exact, cut = {"kind": "adapter"}, {"kind": "adapter", "rank": 8}
    for form in (exact, cut, cut):
        answer = client.post(path, json=form)
        assert answer.status_code == 202
        assert answer.json()["form"] == {"rank": None, **form}
    assert client.get(path).status_code == 404
    assert client.get(path, params={"kind": "adapter", "rank": 4}).status_code == 404
    store.append(search_id, "checkpoint_stored", stored_body(cut, error=0.125), ordinal=3)
    assert client.get(path, params=exact).json()["state"] == "requested"
    found = client.get(path, params=cut).json()
    assert (found["state"], found["error"]) == ("stored", 0.125)
    detail = client.get(path.rpartition("/")[0]).json()
    assert detail["can_be_adapter"]
    assert detail["checkpoints"] == [
        {"form": {"kind": "adapter", "rank": None}, "state": "requested"},
        {"form": {"kind": "adapter", "rank": 8}, "state": "stored"},
    ]


def stored_body(form: dict[str, Any], *, error: float) -> dict[str, Any]:
    return {"digest": "0" * 64, "files": {}, "scores": {}, "error": error, "form": form}


def test_what_is_no_adapter_says_why(client: TestClient, store: Store) -> None:
    search_id = recorded(store, 6, facts={"adapters": ["add"]})
    path = f"{SPEC}/{search_id}/candidates/3"
    assert not client.get(path).json()["can_be_adapter"]
    answer = client.post(f"{path}/checkpoint", json={"kind": "adapter"})
    assert answer.status_code == 409
    (error,) = problem_of(answer)["errors"]
    assert error["field"] == "models.reverse"
    assert "is a whole checkpoint" in error["message"]


@pytest.mark.parametrize("form", [{"kind": "gguf"}, {"rank": 8}, {"kind": "adapter", "rank": 0}])
def test_a_form_that_does_not_exist_is_a_problem(
    client: TestClient, store: Store, form: dict[str, Any]
) -> None:
    path = f"{SPEC}/{recorded(store, 6)}/candidates/3/checkpoint"
    for answer in (client.post(path, json=form), client.get(path, params=form)):
        assert answer.status_code == 422
        problem_of(answer)


def test_what_has_no_weights_has_no_checkpoint(client: TestClient, store: Store) -> None:
    path = f"{SPEC}/{recorded(store, 6)}/candidates"
    assert client.post(f"{path}/5/checkpoint").status_code == 409
    assert client.post(f"{path}/99/checkpoint").status_code == 404


def test_a_stored_checkpoint_tells_its_files(
    client: TestClient, store: Store, artifacts: Artifacts
) -> None:
    found = client.get(stored(store, artifacts, recorded(store, 6))).json()
    assert found["state"] == "stored"
    assert found["files"]["config.json"]["size_bytes"] == 2
    score = found["scores"]["add/score"]
    assert (score["value"], score["stderr"]) == (-0.25, None)


@pytest.mark.parametrize("path", ["methods", "optimizers", "tasks", "models", "schemas/spec"])
def test_catalogues_are_json_without_nan(client: TestClient, path: str) -> None:
    answer = client.get(f"/v1/{path}")
    assert answer.status_code == 200

    def refuse(constant: str) -> None:
        raise AssertionError(f"{path} holds {constant}")

    json.loads(answer.text, parse_constant=refuse)


def test_the_catalogues_are_the_registries(client: TestClient) -> None:
    methods = {method["name"]: method for method in client.get("/v1/methods").json()}
    assert {"linear", "slerp", "ties"} <= set(methods)
    assert methods["ties"]["parameters"]
    names = {optimizer["name"] for optimizer in client.get("/v1/optimizers").json()}
    assert {"uniform", "m2n2", "cma_es"} <= names


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nowhere", 404),
        ("GET", "/v1", 404),
        ("GET", "/v1/searches/", 404),
        ("GET", "/v2/searches", 404),
        ("GET", "/v1/searches/unknown", 404),
        ("GET", "/v1/searches/unknown/candidates", 404),
        ("GET", "/v1/searches/unknown/candidates/0/checkpoint", 404),
        ("GET", "/v1/searches/unknown/events", 404),
        ("GET", "/v1/searches/" + "x" * 65, 422),
        ("GET", "/assets/none.js", 404),
        ("GET", "/assets/..%2Fapp.py", 404),
        ("DELETE", "/v1/searches", 405),
        ("PUT", "/v1/methods", 405),
        ("GET", "/v1/searches?limit=0", 422),
        ("GET", "/v1/searches?limit=many", 422),
        ("GET", "/v1/searches/x/candidates/-1", 422),
        ("GET", "/v1/searches/x/candidates/99999999999", 422),
        ("GET", "/v1/searches/x/events?after=-1", 422),
        ("POST", "/v1/searches/unknown/commands", 422),
    ],
)
def test_every_refusal_is_a_problem_document(
    client: TestClient, method: str, path: str, status: int
) -> None:
    answer = client.request(method, path)
    assert answer.status_code == status
    assert problem_of(answer)["detail"]


def test_a_bug_is_a_problem_document_without_its_traceback(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("secret detail")

    monkeypatch.setattr(Store, "searches", broken)
    answer = client.get(SPEC)
    assert answer.status_code == 500
    problem_of(answer)
    assert "secret" not in answer.text


def test_a_database_that_is_away_is_503(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object, **__: object) -> None:
        raise StoreDown("no route to host db.internal")

    monkeypatch.setattr(Store, "searches", away)
    monkeypatch.setattr(Store, "heads", away)
    for path in (SPEC, "/readyz"):
        answer = client.get(path)
        assert answer.status_code == 503
        assert answer.headers["retry-after"]
        problem_of(answer)
        assert "db.internal" not in answer.text
    assert client.get("/healthz").status_code == 200


def test_operations_answer(client: TestClient, store: Store) -> None:
    recorded(store, 9)
    assert client.get("/healthz").json() == {"status": "alive"}
    assert client.get("/readyz").json() == {"status": "ready"}
    text = client.get("/metrics").text
    assert 'nichemerge_searches{state="running"} 1.0' in text
    assert 'nichemerge_outcomes{outcome="scored"} 8.0' in text
    assert 'route="/readyz"' in text


def test_the_page_of_operations_loads_nothing(client: TestClient) -> None:
    page = client.get("/docs").text
    assert "/v1/searches" in page
    assert "<script" not in page
    assert "http" not in page.replace("https://", "http").split("<body>")[0]


def test_dashboard_files_are_cached_by_etag(client: TestClient) -> None:
    page = client.get("/")
    assert page.headers["content-type"].startswith("text/html")
    plotly = client.get("/assets/plotly.min.js")
    assert plotly.headers["content-type"].startswith("text/javascript")
    assert len(plotly.content) > 1_000_000
    again = client.get("/assets/plotly.min.js", headers={"if-none-match": plotly.headers["etag"]})
    assert again.status_code == 304
    assert again.content == b""


@pytest.mark.parametrize("path", ["/", "/v1/searches", "/nowhere", "/assets/plotly.min.js"])
def test_every_answer_tells_browsers_to_trust_nothing_else(client: TestClient, path: str) -> None:
    headers = client.get(path).headers
    assert headers["content-security-policy"] == CONTENT_SECURITY_POLICY
    assert headers["x-content-type-options"] == "nosniff"
    assert "unsafe-eval" not in CONTENT_SECURITY_POLICY


def test_the_description_is_complete(client: TestClient) -> None:
    """A lint in the spirit of Spectral: what generated clients and readers rely on."""
    description = client.get("/openapi.json").json()
    ids = []
    for path, operations in description["paths"].items():
        for method, operation in operations.items():
            where = f"{method} {path}"
            ids.append(operation["operationId"])
            assert operation["summary"], where
            assert operation["description"], where
            assert operation["tags"], where
            success = [status for status in operation["responses"] if status < "400"]
            assert success, where
            for status, answer in operation["responses"].items():
                assert answer["description"], where
                if status >= "400":
                    assert list(answer["content"]) == ["application/problem+json"], where
            for parameter in operation.get("parameters", ()):
                named = parameter["name"] in ("name",) or parameter.get("description")
                assert named, f"{where}: {parameter['name']}"
    assert len(ids) == len(set(ids))
    references = set(_references(description))
    known = {f"#/components/schemas/{name}" for name in description["components"]["schemas"]}
    assert references <= known


def _references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for value in node.values():
            yield from _references(value)
    elif isinstance(node, list):
        for value in node:
            yield from _references(value)
