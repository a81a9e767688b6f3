"""Points where every parent has one weight in all blocks."""

from __future__ import annotations

import numpy as np
import pytest

from search.parent_weights import needs_weights, weighted, weights_at
from tests.search.optimizers.analytic import Setup

SETUP = Setup("lcsc", blocks=2)


def test_weights_are_those_of_every_block() -> None:
    genome = weighted(SETUP.space, (0.1, 0.2, 0.7))
    assert SETUP.space.decode(genome).parameters["weight"] == ((0.1, 0.2, 0.7),) * 2
    np.testing.assert_allclose(weights_at(SETUP.space, genome.tolist()), (0.1, 0.2, 0.7))


def test_weights_out_of_range_go_to_the_bound() -> None:
    genome = weighted(SETUP.space, (-0.3, 0.0, 1.3))
    np.testing.assert_allclose(weights_at(SETUP.space, genome.tolist()), (0.0, 0.0, 1.0))


@pytest.mark.parametrize("weight", [0.5, {"low": 0.1, "high": 1.0}, {"low": 0.0, "high": 0.5}])
def test_a_weight_that_cannot_be_any_share_is_refused(weight: object) -> None:
    spec = SETUP.spec.model_validate(
        {**SETUP.spec.model_dump(), "space": {"parameters": {"weight": weight}}}
    )
    problems = needs_weights(spec, 6, "lcsc combines checkpoints")
    assert "search a weight from 0" in problems["space.parameters.weight"]


def test_one_parent_is_refused() -> None:
    spec = SETUP.spec.model_copy(update={"parents": SETUP.spec.parents[:1]})
    assert "at least two" in needs_weights(spec, 6, "lcsc combines checkpoints")["parents"]
    assert not needs_weights(SETUP.spec, 6, "lcsc combines checkpoints")
