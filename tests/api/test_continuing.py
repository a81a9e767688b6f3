from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from api.continuing import kept, pinned
from api.store import Provenance, Search, Store, Submission
from search.outcome import Candidate, Infeasible, Origin
from search.problems import Invalid
from search.recipe import mixture
from search.spec import Continued
from tests.analytic import submission

EARLIER = Search("0123", datetime(2026, 1, 1, tzinfo=UTC), submission(evaluations=40))


def continuing(evaluations: int | None = None, **changes: Any) -> Submission:
    continues = {"search": "0123", "evaluations": evaluations}
    return submission(**{"evaluations": 60, "continues": continues, **changes})


def test_how_much_is_kept_is_settled_on_submission() -> None:
    later = continuing(space={"blocks": "tensor", "parameters": {"weight": 0.5}}, seed=1)
    assert pinned(later, EARLIER, 40).spec.continues == Continued(search="0123", evaluations=40)
    assert pinned(continuing(7), EARLIER, 40).spec.continues == continuing(7).spec.continues


@pytest.mark.parametrize(
    ("later", "field", "message"),
    [
        (continuing(41), "continues.evaluations", "is 41, but the search has 40 with an outcome"),
        (continuing(evaluations=None), "continues", "has no evaluation with an outcome yet"),
        (
            submission(evaluations=40, continues="0123"),
            "budget.evaluations",
            "is 40, but the search begins with 40 evaluations that it keeps",
        ),
        (
            continuing(parents=[{"name": "add", "path": "models/add"}]),
            "continues",
            "merges reverse as well; name all of its parents",
        ),
        (
            continuing(objectives=[{"task": "add", "metric": "score"}]),
            "continues",
            "has another base, other objectives (or in another order)",
        ),
        (continuing(evaluation={"num_fewshot": 3}), "continues", "another evaluation"),
        (continuing(base={"path": "models/other"}), "continues", "has another base"),
    ],
)
def test_what_cannot_be_continued(later: Submission, field: str, message: str) -> None:
    with pytest.raises(Invalid) as caught:
        pinned(later, EARLIER, 0 if "no evaluation" in message else 40)
    (problem,) = caught.value.problems
    assert problem.field == field
    assert message in problem.message


def test_weights_and_bounds_of_objectives_may_differ() -> None:
    objectives = [
        {"task": "add", "metric": "score", "at_least": 0.5},
        {"task": "reverse", "metric": "acc", "weight": 2.0},
    ]
    assert pinned(continuing(objectives=objectives), EARLIER, 40).spec.continues is not None


def test_what_is_kept_comes_in_the_order_of_the_log(sqlite_url: str) -> None:
    store = Store(sqlite_url)
    search_id = store.create_search(submission())
    for ordinal in range(9):
        recipe = mixture(("add",), (float(ordinal),))
        candidate = Candidate(ordinal, recipe, Origin("sample"))
        store.enqueue(search_id, candidate)
        store.record(search_id, Infeasible(candidate, "as the test has it"), Provenance("w"))
    found = kept(store, Continued(search=search_id, evaluations=7))
    assert [one.ordinal for one in found] == list(range(7))
    assert found[3].recipe == mixture(("add",), (3.0,))
    assert found[3].origin == Origin("kept", detail={"search": search_id, "ordinal": 3})
    with pytest.raises(Invalid, match="is not known; submit the spec to the service"):
        kept(store, Continued(search=search_id))
    store.close()


def test_another_layout_is_another_base() -> None:
    layout = EARLIER.submission.layout
    other = layout.model_copy(update={"tensors": layout.tensors[1:]})
    with pytest.raises(Invalid, match="has another base"):
        pinned(replace(continuing(), layout=other), EARLIER, 40)
