"""Candidates that cannot be: they are told with their reason, and the search goes on."""

from __future__ import annotations

import re
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from api.store import Store
from tests.real import attend, client_of, document, make_home, submit
from workers.local_fleet import LocalFleet
from workers.worker import Worker

# A difference between two of these models times this is beyond float16, which ends at 65504.
TOO_MUCH = 1e6


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_home(tmp_path_factory.mktemp("half"), dtype="float16")


def candidates(home: Path, url: str, **changes: Any) -> list[dict[str, Any]]:
    """The rows of a search that is run to its end, as clients see them."""
    store = Store(url)
    search_id = submit(home, store, document(**changes))
    with closing(LocalFleet(Worker().run)) as fleet:
        attend(store, fleet, search_id)
    with client_of(home, store) as client:
        search = client.get(f"/v1/searches/{search_id}").json()
        rows = client.get(f"/v1/searches/{search_id}/candidates").json()["items"]
        whole = [
            client.get(f"/v1/searches/{search_id}/candidates/{row['ordinal']}").json()
            for row in rows
        ]
    store.close()
    assert search["state"] == "finished"
    states = [row["state"] for row in rows]
    assert search["progress"]["infeasible"] == states.count("infeasible")
    assert search["progress"]["scored"] == states.count("scored")
    assert len(rows) == search["progress"]["evaluations"], "nothing was given up"
    assert [row["reason"] for row in whole] == [row["reason"] for row in rows]
    return list(rows)


def searched(high: float) -> dict[str, Any]:
    parameters = {"weight": {"low": 0.001, "high": high, "log": True}}
    return {"space": {"parameters": parameters}, "budget": {"evaluations": 20, "parallel": 4}}


def test_a_merge_that_is_not_finite_is_infeasible_and_the_search_goes_on(
    home: Path, sqlite_url: str
) -> None:
    rows = candidates(home, sqlite_url, **searched(TOO_MUCH))
    failed = [row for row in rows if row["state"] == "infeasible"]
    assert failed
    reasons = {
        re.sub(r"^'model[.].*weight'|: the tasks' own questions .*", "…", row["reason"])
        for row in failed
    }
    assert reasons == {
        "… is not finite after the merge; its weights are too large",
        "the model's outputs are not finite",  # of weights that just fit into float16
        "the merge lost its language…",  # of weights that fit, and mean nothing
    }
    assert all((row["scores"], row["on_front"]) == ({}, False) for row in failed)
    after = [row for row in rows if row["ordinal"] > failed[0]["ordinal"]]
    assert any(row["state"] == "scored" for row in after)
    assert all(row["scores"] and row["reason"] is None for row in rows if row not in failed)


def test_with_weights_that_fit_every_candidate_is_scored(home: Path, sqlite_url: str) -> None:
    """The control of the test above."""
    rows = candidates(home, sqlite_url, **searched(1.0))
    assert {row["state"] for row in rows} == {"scored"}


def test_a_merge_that_divides_by_nothing_is_infeasible_with_what_to_do(
    home: Path, sqlite_url: str
) -> None:
    """The middle of this space has weights that sum to zero."""
    rows = candidates(
        home,
        sqlite_url,
        method="linear",
        space={"parameters": {"weight": {"low": -1.0, "high": 1.0}, "normalize": True}},
    )
    middle = next(row for row in rows if row["origin"]["detail"] == {"name": "middle"})
    assert middle["state"] == "infeasible"
    assert "the weights of the parents sum to 0" in middle["reason"]
    assert "raise a weight or turn normalize off" in middle["reason"]
    assert rows[-1]["ordinal"] > middle["ordinal"]
