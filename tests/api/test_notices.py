"""What is worth knowing of a search."""

from datetime import UTC, datetime
from typing import Any

from api.notices import Notices
from api.store.records import Event, EventKind

ENGINE = {"torch": "2.13.0", "dtype": "bfloat16", "plan": "2048 tokens"}


def event(seq: int, kind: EventKind, **body: Any) -> Event:
    return Event(seq, kind, seq, datetime.now(UTC), body)


def test_scores_of_one_engine_are_not_remarked_upon() -> None:
    notices = Notices()
    notices.feed([event(1, "surveyed", engine=ENGINE), event(2, "scored", engine=dict(ENGINE))])
    notices.feed([event(3, "infeasible", reason="broken")])
    assert notices.problems == []


def test_scores_of_different_engines_are_with_what_differs() -> None:
    notices = Notices()
    notices.feed([event(1, "surveyed", engine=ENGINE)])
    notices.feed([event(2, "scored", engine={**ENGINE, "torch": "2.12.1"})])
    (notice,) = notices.problems
    assert notice.field == "engine"
    assert notice.message == (
        "scores are of 2 different engines, which differ in torch (2.13.0, 2.12.1); a small "
        "difference between two candidates may be one between their engines"
    )


def test_noise_is_that_of_the_survey() -> None:
    notices = Notices()
    noise = {"add/acc": {"count": 16, "largest": 0.0, "flips": 0}}
    notices.feed([event(1, "surveyed", noise=noise)])
    assert notices.noise == noise
