import pytest

from search.layout import Layout, Tensor
from search.stack import NoStack, stack_of
from tests.search.conftest import llama


def layout(*names: str, size: int = 2) -> Layout:
    return Layout.of(Tensor(name=name, shape=(size,), dtype="F32") for name in names)


def test_a_stack_knows_its_layers_and_what_is_in_each() -> None:
    stack = stack_of(llama(3))
    assert (stack.name, stack.depth) == ("model.layers", 3)
    assert stack.parts == dict.fromkeys(
        ("input_layernorm.weight", "mlp.up_proj.weight", "self_attn.q_proj.weight"), 12
    )
    assert stack.tensor(7, "mlp.up_proj.weight") == "model.layers.7.mlp.up_proj.weight"


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (("a.w",), "there are none"),
        (("a.0.w", "b.0.w"), "there are a, b"),
        (("a.0.w", "a.2.w"), "'a' lacks layers between"),
        (("a.0.w", "a.1.w", "a.1.b"), r"'a\.1' has other tensors than 'a\.0'"),
    ],
)
def test_layers_that_cannot_change_places_are_told(names: tuple[str, ...], reason: str) -> None:
    with pytest.raises(NoStack, match=reason):
        stack_of(layout(*names))


def test_layers_of_other_shapes_cannot_change_places() -> None:
    tensors = (*layout("a.0.w").tensors, *layout("a.1.w", size=3).tensors)
    with pytest.raises(NoStack, match="other tensors"):
        stack_of(Layout.of(tensors))
