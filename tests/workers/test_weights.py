"""What weights alone tell of a merge, beside the same sums in numpy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from evals.suite import Split, Suite
from search.intervals import interval
from search.paired import difference
from search.recipe import Recipe, mixture
from search.spec import Objective
from tests.workers.tiny_zoo import make_suite, make_zoo
from workers.checkpoints.parents import Parents
from workers.materializer import Materializer
from workers.messages import Confirm, Confirmed, Evaluate, Evaluated, Job, Zoo
from workers.resident import empty_model
from workers.weights import changed, weigh
from workers.worker import Worker

WEIGHTS = (
    Objective(task="weights", metric="delta_norm"),
    Objective(task="weights", metric="sparsity"),
)
AVERAGE = mixture(("p0", "p1"), (0.5, 0.5))
SPARSE = Recipe(
    method="ties", parents=("p0", "p1"), parameters={"weight": ((1.0, 1.0),), "density": 0.1}
)


@pytest.fixture(params=["float32", "bfloat16"])
def zoo(tmp_path: Path, request: pytest.FixtureRequest) -> Zoo:
    return make_zoo(tmp_path / "models", dtype=request.param)


@pytest.fixture
def parents(zoo: Zoo) -> Iterator[Parents]:
    with closing(Parents(zoo)) as opened:
        yield opened


def flat(materializer: Materializer) -> tuple[np.ndarray, np.ndarray]:
    pairs = [(m.double().numpy(), b.double().numpy()) for m, b in materializer.beside_base()]
    merged, base = zip(*pairs, strict=True)
    return (
        np.concatenate([one.ravel() for one in merged]),
        np.concatenate([one.ravel() for one in base]),
    )


def test_the_change_is_told_of_all_weights_as_one_vector(zoo: Zoo, parents: Parents) -> None:
    materializer = Materializer(parents, empty_model(Path(zoo.base), zoo.dtype, "cpu"))
    shares = []
    for recipe in (AVERAGE, SPARSE):
        materializer.materialize(recipe)
        merged, base = flat(materializer)
        scores = weigh(materializer, Suite(WEIGHTS, Split.SEARCH))
        moved = np.linalg.norm(merged - base) / np.linalg.norm(base)
        assert scores["weights/delta_norm"].value == pytest.approx(-moved, rel=1e-6)
        assert scores["weights/sparsity"].value == np.mean(merged == base)
        assert changed(materializer).weights == parents.layout.size
        shares.append(scores["weights/sparsity"].value)
    assert shares[1] > shares[0] + 0.5, "control: what is trimmed stays the base's"


def test_the_base_has_not_moved(zoo: Zoo, parents: Parents) -> None:
    materializer = Materializer(parents, empty_model(Path(zoo.base), zoo.dtype, "cpu"))
    materializer.materialize(mixture(("base",), (1.0,)))
    scores = weigh(materializer, Suite(WEIGHTS, Split.REPORT))
    assert [score.value for score in scores.values()] == [0.0, 1.0]
    assert all(score.is_exact and score.split is Split.REPORT for score in scores.values())


def test_it_is_known_without_error(zoo: Zoo, parents: Parents) -> None:
    materializer = Materializer(parents, empty_model(Path(zoo.base), zoo.dtype, "cpu"))
    found = []
    for recipe in (AVERAGE, mixture(("base",), (1.0,))):
        materializer.materialize(recipe)
        found.append(weigh(materializer, Suite(WEIGHTS, Split.REPORT)))
    average, base = found
    for key in average:
        value = base[key].value
        assert interval(base[key]) == (value, value)
        gain = difference(base[key], average[key], np.random.default_rng(0))
        assert gain.low == gain.value == gain.high > 0
        assert gain.value == pytest.approx(value - average[key].value, rel=1e-6)


def test_a_worker_tells_it_beside_what_it_asks(tmp_path: Path) -> None:
    zoo = make_zoo(tmp_path / "models")
    suite = make_suite(tmp_path / "suite")
    both = replace(suite, objectives=(WEIGHTS[1], *suite.objectives, WEIGHTS[0]))
    worker = Worker()
    found = worker.run(Job("j", zoo, Evaluate(AVERAGE, both)))
    plain = worker.run(Job("j", zoo, Evaluate(AVERAGE, suite)))
    assert isinstance(found, Evaluated)
    assert isinstance(plain, Evaluated)
    assert list(found.scores) == [objective.key for objective in both.objectives]
    assert {key: found.scores[key] for key in plain.scores} == plain.scores
    report = replace(both, split=Split.REPORT)
    confirmed = worker.run(Job("c", zoo, Confirm(AVERAGE, report)))
    assert isinstance(confirmed, Confirmed)
    for objective in WEIGHTS:
        assert confirmed.scores[objective.key].value == found.scores[objective.key].value
