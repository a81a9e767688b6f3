"""A small model, a method and a spec that the tests of this folder share."""

import pytest

from search.layout import Layout, Tensor
from search.method import MethodDeclaration, Parameter


def llama(layers: int = 4) -> Layout:
    names = [
        f"model.layers.{layer}.{part}.weight"
        for layer in range(layers)
        for part in ("self_attn.q_proj", "mlp.up_proj", "input_layernorm")
    ]
    names += ["model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"]
    return Layout.of(Tensor(name=name, shape=(4, 3), dtype="F32") for name in names)


@pytest.fixture
def layout() -> Layout:
    return llama()


@pytest.fixture
def declaration() -> MethodDeclaration:
    return MethodDeclaration(
        name="ties",
        summary="Trim, elect, average.",
        source="arXiv:2306.01708",
        parameters=(
            Parameter("weight", "share of a parent", per_parent=True),
            Parameter("density", "a fraction", per_parent=True, minimum=0.0, maximum=1.0),
            Parameter("lambda", "scale of the merged delta"),
            Parameter("normalize", "divide by the sum of weights", kind="flag", default=True),
            Parameter("rescale", "how", kind="choice", default="l1", choices=("l1", "none")),
        ),
        uses_base=True,
        parent_values={"density": 1.0, "lambda": 1.0},
    )


@pytest.fixture
def document() -> dict[str, object]:
    return {
        "name": "add-and-reverse",
        "base": {"path": "models/base"},
        "parents": [
            {"name": "add", "path": "models/add"},
            {"name": "reverse", "path": "models/reverse"},
            {"name": "facts", "path": "models/facts"},
        ],
        "method": "ties",
        "space": {
            "blocks": {"layers": 2, "modules": ["attention", "mlp"]},
            "parameters": {"weight": {"low": 0.0, "high": 1.5}, "density": 0.5},
        },
        "objectives": [
            {"task": "nm_add", "metric": "acc"},
            {"task": "nm_reverse", "metric": "exact_match"},
        ],
        "optimizer": {"name": "m2n2", "population": 20},
        "budget": {"evaluations": 400, "parallel": 8},
        "seed": 0,
    }
