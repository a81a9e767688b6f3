"""Every example's score of every candidate: as a file, and of two candidates side by side."""

import io
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
from fastapi.testclient import TestClient

from api.ledger import duel, parquet
from api.store import Provenance, Store
from evals.harness import Document, Documents
from evals.suite import Split
from search.outcome import Candidate, HeldOut, Origin, Score, Scored
from search.recipe import mixture
from tests.analytic import submission
from tests.serving import recorded
from workers.messages import Surveyed

MINE = np.array([1, 0, 1, 0, 1, 1], np.float32)
THEIRS = np.array([0, 1, 1, 0, 0, 1], np.float32)
LOSSES = np.array([-0.5, -2.0, -1.0, -1.0, -0.25, -3.0], np.float32)


def documents(task: str) -> Documents:
    told = (Document(9 - n, f"{n:016x}", f"question {n}", f"answer {n}") for n in range(6))
    return Documents(task, Split.SEARCH, tuple(told))


@pytest.fixture
def search_id(store: Store) -> str:
    """Two candidates, of an objective that is right or wrong and of one that is to be small."""
    given = submission()
    search_id = store.create_search(
        replace(given, directions={"add/score": False, "reverse/acc": True})
    )
    told = (documents("add"), documents("reverse"))
    store.record_survey(search_id, Surveyed({"base/model": "ab"}, None, documents=told))
    for ordinal, hits in enumerate((MINE, THEIRS)):
        candidate = Candidate(ordinal, mixture(("add",), (1.0,)), Origin("sample"))
        store.enqueue(search_id, candidate)
        losses = LOSSES - ordinal
        scores = {
            "add/score": Score(float(losses.mean()), 0.1, 6, losses),
            "reverse/acc": Score(float(hits.mean()), 0.2, 6, hits),
        }
        store.record(search_id, Scored(candidate, scores), Provenance("w"))
    return search_id


def rows_of(client: TestClient, search_id: str, **query: str) -> list[dict[str, object]]:
    response = client.get(f"/v1/searches/{search_id}/examples.parquet", params=query)
    assert response.status_code == 200, response.text
    found: list[dict[str, object]] = pq.read_table(io.BytesIO(response.content)).to_pylist()
    return found


def test_every_score_of_every_candidate_is_a_row(client: TestClient, search_id: str) -> None:
    rows = rows_of(client, search_id)
    assert len(rows) == 2 * 2 * 6
    assert rows[6] == {
        "candidate": 0,
        "split": "search",
        "task": "reverse",
        "metric": "acc",
        "example": 9,
        "document": "0" * 16,
        "score": 1.0,
    }
    assert [row["score"] for row in rows if row["task"] == "reverse"] == [*MINE, *THEIRS]


def test_scores_are_in_the_sign_of_the_metric(client: TestClient, search_id: str) -> None:
    rows = rows_of(client, search_id, candidates="0")
    assert [row["score"] for row in rows if row["task"] == "add"] == list(-LOSSES)


def test_aggregates_can_be_computed_again(client: TestClient, search_id: str) -> None:
    rows = rows_of(client, search_id)
    for ordinal in (0, 1):
        view = client.get(f"/v1/searches/{search_id}/candidates/{ordinal}").json()
        for key, score in view["scores"].items():
            own = [
                row["score"]
                for row in rows
                if row["candidate"] == ordinal and f"{row['task']}/{row['metric']}" == key
            ]
            assert np.mean(own, dtype=np.float64) == pytest.approx(score["value"], rel=1e-6)
            assert len(own) == score["count"]


def test_rows_can_be_chosen_by_candidate_and_split(
    client: TestClient, store: Store, search_id: str
) -> None:
    candidate = Candidate(1, mixture(("add",), (1.0,)), Origin("sample"))
    other = Score(0.5, 0.5, 2, np.array([0, 1], np.float32), Split.REPORT)
    held_out = HeldOut(candidate, Split.REPORT, {"reverse/acc": other})
    store.record_confirmation(search_id, held_out, Provenance("w"))
    assert len(rows_of(client, search_id)) == 24 + 2
    (zero, one) = rows_of(client, search_id, split="report")
    assert (zero["score"], one["score"], zero["candidate"]) == (0.0, 1.0, 1)
    assert (zero["example"], zero["document"]) == (0, None), "of this split nothing is known"
    assert {row["candidate"] for row in rows_of(client, search_id, candidates="1,7")} == {1}
    assert rows_of(client, search_id, candidates="7") == []


def test_of_a_candidate_that_was_raced_out_there_are_the_first_examples(
    client: TestClient, store: Store, search_id: str
) -> None:
    candidate = Candidate(2, mixture(("add",), (1.0,)), Origin("sample"))
    store.enqueue(search_id, candidate)
    score = Score(0.5, 0.5, 2, np.array([0, 1], np.float32))
    store.record(search_id, Scored(candidate, {"reverse/acc": score}), Provenance("w"))
    rows = rows_of(client, search_id, candidates="2")
    assert [(row["example"], row["score"]) for row in rows] == [(9, 0.0), (8, 1.0)]


def test_a_wrong_choice_is_told_with_its_field(client: TestClient, search_id: str) -> None:
    path = f"/v1/searches/{search_id}/examples.parquet"
    (error,) = client.get(path, params={"candidates": "1,x"}).json()["errors"]
    assert error["field"] == "candidates"
    assert client.get(path, params={"split": "all"}).status_code == 422
    assert client.get("/v1/searches/nope/examples.parquet").status_code == 404


def test_a_large_file_comes_in_pieces_of_its_own_row_groups(
    store: Store, search_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.ledger._GROUP", 10)
    pieces = list(parquet(store, store.search(search_id)))
    file = pq.ParquetFile(io.BytesIO(b"".join(pieces)))
    groups = [file.metadata.row_group(n).num_rows for n in range(file.num_row_groups)]
    assert groups == [12, 12]
    assert len(pieces) == 3, "one for each group, and the end"


def test_a_search_without_scores_is_a_file_without_rows(client: TestClient, store: Store) -> None:
    assert rows_of(client, store.create_search(submission())) == []


def test_a_comparison_tells_which_examples_are_won_and_lost(
    client: TestClient, search_id: str
) -> None:
    path = f"/v1/searches/{search_id}/candidates/0/comparison"
    found = client.get(path, params={"baseline": 1}).json()
    smaller, right = found["objectives"]
    assert (right["wins"], right["losses"], right["ties"]) == (2, 1, 3)
    assert right["won"][0] == {
        "example": 9,
        "document": "0" * 16,
        "question": "question 0",
        "answer": "answer 0",
        "score": 1.0,
        "baseline_score": 0.0,
    }
    assert [one["example"] for one in right["lost"]] == [8]
    assert (smaller["wins"], smaller["losses"]) == (6, 0), "less is better here"
    assert smaller["won"][0]["score"] == 0.5
    assert smaller["won"][0]["baseline_score"] == 1.5
    short = client.get(path, params={"baseline": 1, "limit": 1}).json()["objectives"][0]
    assert (short["wins"], len(short["won"])) == (6, 1)


def test_what_cannot_be_compared_is_not_found(client: TestClient, search_id: str) -> None:
    path = f"/v1/searches/{search_id}/candidates"
    missing = client.get(f"{path}/0/comparison", params={"baseline": 5})
    assert missing.json()["detail"] == "The search has no candidate 5 (yet)."
    unscored = client.get(f"{path}/0/comparison", params={"baseline": 1, "split": "report"})
    assert unscored.json()["detail"] == "Candidate 0 has no report scores (yet)."


def test_examples_of_an_old_search_go_by_their_place(client: TestClient, store: Store) -> None:
    search_id = recorded(store)
    path = f"/v1/searches/{search_id}/candidates/3/comparison"
    objectives = client.get(path, params={"baseline": 0}).json()["objectives"]
    shown = [one for objective in objectives for one in objective["won"] + objective["lost"]]
    assert shown
    assert all((one["document"], one["question"]) == (None, "") for one in shown)


def test_two_are_compared_on_what_both_have_seen() -> None:
    found = duel(MINE[:3], THEIRS)
    assert (found.won, found.lost, found.tied) == ([0], [1], 1)


def test_the_clearest_differences_come_first() -> None:
    found = duel(np.array([1, 9, 3], np.float32), np.zeros(3, np.float32))
    assert found.won == [1, 2, 0]
