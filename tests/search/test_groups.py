import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search.groups import EVERYWHERE, Spread, apart, everywhere, gradient, refined
from search.layout import LayerGroups, Layout, Partition, Tensor
from tests.search.conftest import llama

EXAMPLES = settings(max_examples=25)
PARTITIONS: list[Partition] = [
    LayerGroups(layers=1),
    LayerGroups(layers=1, modules=("attention", "mlp")),
    LayerGroups(layers=1, modules=("attention", "mlp", "norm")),
    "tensor",
]


def values_by_depth(layout: Layout, partition: Partition, *knots: float) -> dict[str, float]:
    """What every block has when each column has these values at its knots."""
    blocks = layout.blocks(partition)
    groups = gradient(layout, blocks, len(knots))
    places = [float(group.name.partition("@")[2]) for group in groups]
    given_ = [(knots[round(place * (len(knots) - 1))],) for place in places]
    table = Spread.over(groups, len(blocks)).table(given_)
    return {block.name: row[0] for block, row in zip(blocks, table, strict=True)}


def test_layers_are_interpolated_as_by_mergekit() -> None:
    """Its gradient [0, 1, 0] over five layers; beyond them the nearest layer."""
    assert values_by_depth(llama(5), LayerGroups(), 0.0, 1.0, 0.0) == {
        "embed": 0.0,
        "layers.0": 0.0,
        "layers.1": 0.5,
        "layers.2": 1.0,
        "layers.3": 0.5,
        "layers.4": 0.0,
        "final_norm": 0.0,
        "head": 0.0,
    }


def test_what_comes_before_and_after_the_layers_stands_with_the_first_and_the_last() -> None:
    found = values_by_depth(llama(3), LayerGroups(), 1.0, 2.0)
    assert (found["embed"], found["final_norm"], found["head"]) == (1.0, 2.0, 2.0)


def test_the_only_layer_is_the_last() -> None:
    assert values_by_depth(llama(1), LayerGroups(), 1.0, 2.0)["layers.0"] == 2.0


def test_stacks_have_gradients_of_their_own() -> None:
    layout = Layout.of(
        Tensor(name=f"{stack}.block.{layer}.layer.0.wo.weight", shape=(2, 2), dtype="F32")
        for stack in ("encoder", "decoder")
        for layer in range(2)
    )
    names = [group.name for group in gradient(layout, layout.blocks(LayerGroups()), 2)]
    assert names == [f"{s}.block@{k}" for s in ("decoder", "encoder") for k in (0, 1)]


@pytest.mark.parametrize("partition", PARTITIONS)
@given(knots=st.integers(2, 5), layers=st.integers(5, 9))
@EXAMPLES
def test_shares_of_a_block_sum_to_one_and_no_knot_is_idle(
    partition: Partition, knots: int, layers: int
) -> None:
    layout = llama(layers)
    blocks = layout.blocks(partition)
    groups = gradient(layout, blocks, knots)
    rows = Spread.over(groups, len(blocks)).rows
    assert all(sum(share for _, share in row) == pytest.approx(1.0) for row in rows)
    assert all(group.shares for group in groups)
    assert all(0 <= group.block < len(blocks) for group in groups)


@pytest.mark.parametrize("partition", PARTITIONS)
@given(knots=st.integers(2, 5), seed=st.integers(0, 2**32 - 1))
@EXAMPLES
def test_values_are_found_again_from_their_table(
    partition: Partition, knots: int, seed: int
) -> None:
    layout = llama(6)
    blocks = layout.blocks(partition)
    spread = Spread.over(gradient(layout, blocks, knots), len(blocks))
    values = np.random.default_rng(seed).random((len(spread.groups), 3))
    table = np.array(spread.table(values.tolist()))
    assert spread.values(table) == pytest.approx(values, abs=1e-9)


def test_what_is_interpolated_never_leaves_its_ends() -> None:
    """Rounding would: (1 - x) * 0.1 + x * 0.1 is not always 0.1."""
    found = values_by_depth(llama(9), LayerGroups(), 0.1, 0.1, 0.1)
    assert set(found.values()) == {0.1}


def test_one_value_for_all_blocks_belongs_to_none() -> None:
    (group,) = everywhere(llama().blocks("tensor"))
    assert (group.name, group.block, len(group.shares)) == ("model", EVERYWHERE, 15)


def test_blocks_are_apart_also_where_others_are_finer() -> None:
    layout = llama(4)
    wanted = LayerGroups(layers=2, modules=("mlp",))
    fine = layout.blocks(refined(wanted))
    groups = apart(layout, fine, wanted)
    assert [group.name for group in groups] == [block.name for block in layout.blocks(wanted)]
    pairs = {group.name: [fine[place].name for place in group.shares] for group in groups}
    assert pairs["layers.2-3.mlp"] == ["layers.2.mlp", "layers.3.mlp"]
    assert pairs["embed"] == ["embed"]
