"""What papers recommend is tried first, as far as a space holds it."""

from __future__ import annotations

import numpy as np
import pytest

from search.geometry import Geometry
from search.layout import Layout, Tensor
from search.method import MethodDeclaration, Parameter, one_of
from search.space import SearchSpace
from search.spec import parse_spec
from search.warm_starts import warm_starts

WEIGHT = Parameter("weight", "of a parent", per_parent=True)
DENSITY = Parameter("density", "kept", minimum=0, maximum=1)
LAYERS = 3


def declared(name: str, *parameters: Parameter) -> MethodDeclaration:
    return MethodDeclaration(
        name=name, summary="", source="", parameters=parameters, uses_base=True
    )


TASK_ARITHMETIC = declared("task_arithmetic", WEIGHT)
TIES = declared("ties", WEIGHT, DENSITY)


def space(
    method: MethodDeclaration = TASK_ARITHMETIC, *, parents: int = 2, **parameters: object
) -> SearchSpace:
    """A weight for every parent and layer from 0 to 1, unless said otherwise."""
    spec = parse_spec(
        {
            "name": "s",
            "base": {"path": "base"},
            "parents": [{"name": f"p{i}", "path": f"p{i}"} for i in range(parents)],
            "method": {"choices": sorted(method.alternatives)}
            if method.alternatives
            else method.name,
            "space": {
                "blocks": {"layers": 1},
                "parameters": parameters or {"weight": {"low": 0.0, "high": 1.0}},
            },
            "objectives": [{"task": "t", "metric": "acc"}],
            "budget": {"evaluations": 10},
        }
    )
    tensors = [Tensor(name=f"layers.{i}.w", shape=(1,), dtype="F32") for i in range(LAYERS)]
    return SearchSpace(method, spec, Layout.of(tensors))


def weights(found: SearchSpace, genome: np.ndarray) -> np.ndarray:
    """(layers, parents)."""
    return np.array(found.decode(genome).parameters["weight"])


def geometry(*changes: tuple[float, ...]) -> Geometry:
    """The base is the origin; each layer is one number of each parent."""
    models = np.array([(0.0,) * LAYERS, *changes])
    return Geometry(np.arange(LAYERS + 1), np.einsum("ic,jc->cij", models, models))


def test_task_arithmetic_comes_first_with_the_weight_of_its_paper() -> None:
    here = space()
    first = warm_starts(here, None, [])[0]
    assert weights(here, first) == pytest.approx(0.4)


def test_many_parents_share_what_is_added() -> None:
    here = space(parents=10)
    assert weights(here, warm_starts(here, None, [])[0]) == pytest.approx(0.2)


def test_lines_gives_later_layers_more() -> None:
    here = space()
    last = weights(here, warm_starts(here, None, [])[-1])
    assert last[:, 0] == pytest.approx([0.5, 0.75, 1.0])


def test_model_stock_keeps_of_every_layer_what_parents_agree_on() -> None:
    """Equal in the first layer, contrary in the second, alone in the third."""
    here = space()
    found = warm_starts(here, geometry((2.0, 1.0, 1.0), (2.0, -1.0, 0.0)), [])
    stock = weights(here, found[1])
    assert stock[:, 0] == pytest.approx([0.5, 0.0, 0.0])


def test_model_stock_at_a_known_angle() -> None:
    """Jang et al. 2024, eq. 5 for two models: t = 2 c / (1 + c), here for a cosine of 0.9."""
    here = space()
    grams = np.zeros((LAYERS, 3, 3))
    grams[:, 1:, 1:] = [[1.0, 0.9], [0.9, 1.0]]
    found = warm_starts(here, Geometry(np.arange(LAYERS + 1), grams), [])
    assert weights(here, found[0]) == pytest.approx(0.4)
    assert weights(here, found[1]) == pytest.approx(1.8 / 1.9 / 2)


def test_ties_is_tried_where_it_is_a_choice() -> None:
    both = one_of([TASK_ARITHMETIC, TIES])
    here = space(both, weight={"low": 0.0, "high": 1.0}, density={"low": 0.0, "high": 1.0})
    recipes = [here.decode(genome) for genome in warm_starts(here, None, [])]
    assert [recipe.method for recipe in recipes[:2]] == ["task_arithmetic", "ties"]
    assert np.array(recipes[1].parameters["weight"]) == pytest.approx(0.3)
    assert np.array(recipes[1].parameters["density"]) == pytest.approx(0.2)


def test_what_is_tried_anyway_is_left_out() -> None:
    here = space()
    taken = [np.full(here.dim, 0.43)]
    assert all(np.abs(genome - 0.43).max() >= 0.05 for genome in warm_starts(here, None, taken))
    assert len(warm_starts(here, None, taken)) == len(warm_starts(here, None, [])) - 1


def test_without_weights_nothing_is_recommended() -> None:
    here = space(TIES, weight=1.0, density={"low": 0.0, "high": 1.0})
    assert warm_starts(here, None, []) == []
