from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.layout import LayerGroups, Layout, Partition, Segments, Tensor, is_head


def names(layout: Layout, partition: Partition) -> list[str]:
    return [block.name for block in layout.blocks(partition)]


def test_model_order_is_embeddings_layers_by_number_final_norm_head() -> None:
    scrambled = [
        "lm_head.w",
        "model.norm.w",
        "model.layers.10.mlp.w",
        "model.layers.9.mlp.w",
        "wte.w",
    ]
    layout = Layout.of(Tensor(name=n, shape=(2,), dtype="F32") for n in scrambled)
    assert [t.name for t in layout.tensors] == [
        "wte.w",
        "model.layers.9.mlp.w",
        "model.layers.10.mlp.w",
        "model.norm.w",
        "lm_head.w",
    ]


@pytest.mark.parametrize(
    ("name", "kind", "head"),
    [
        ("lm_head.weight", "embedding", True),
        ("head.weight", "embedding", True),
        ("model.embed_tokens.weight", "embedding", False),
        ("encoder.layers.0.self_attn.head_proj.weight", "matrix", False),
        ("model.norm.weight", "matrix", False),
    ],
)
def test_a_head_turns_hidden_states_into_logits(name: str, kind: str, head: bool) -> None:
    tensor = Tensor(name=name, shape=(2, 3), dtype="F32")
    assert Layout.of([tensor]).kind(tensor) == kind
    assert is_head(name) == head


def test_layer_groups_keep_embeddings_final_norm_and_head_apart(layout: Layout) -> None:
    assert names(layout, LayerGroups(layers=2, modules=("attention", "mlp"))) == [
        "embed",
        "layers.0-1.rest",
        "layers.0-1.mlp",
        "layers.0-1.attention",
        "layers.2-3.rest",
        "layers.2-3.mlp",
        "layers.2-3.attention",
        "final_norm",
        "head",
    ]


def test_last_group_takes_the_layers_that_remain(layout: Layout) -> None:
    assert names(layout, LayerGroups(layers=3)) == [
        "embed",
        "layers.0-2",
        "layers.3",
        "final_norm",
        "head",
    ]


@pytest.mark.parametrize(
    ("name", "block"),
    [
        ("transformer.h.1.attn.c_attn.weight", "h.1.attention"),
        ("transformer.h.1.ln_1.weight", "h.1.norm"),
        ("gpt_neox.layers.1.attention.dense.weight", "gpt_neox.layers.1.attention"),
        ("gpt_neox.layers.1.post_attention_layernorm.weight", "gpt_neox.layers.1.norm"),
        ("model.layers.1.block_sparse_moe.experts.3.w1.weight", "layers.1.mlp"),
        ("encoder.block.1.layer.0.SelfAttention.q.weight", "encoder.block.1.attention"),
        ("transformer.wpe.weight", "embed"),
        ("transformer.ln_f.weight", "final_norm"),
        ("embed_out.weight", "head"),
    ],
)
def test_modules_are_told_from_names_of_many_architectures(name: str, block: str) -> None:
    layout = Layout.of([Tensor(name=name, shape=(2,), dtype="F32")])
    groups = LayerGroups(modules=("attention", "mlp", "norm"))
    assert names(layout, groups) == [block]


def test_tied_tensors_are_merged_once() -> None:
    both = [Tensor(name=n, shape=(2,), dtype="F32") for n in ("embed.weight", "lm_head.weight")]
    layout = Layout.of(both, {"lm_head.weight": "embed.weight"})
    assert [t.name for t in layout.tensors] == ["embed.weight"]
    assert layout.size == 2


PARTITIONS: list[Partition] = ["model", "tensor", LayerGroups(), LayerGroups(layers=3)]


@pytest.mark.parametrize("partition", PARTITIONS, ids=str)
def test_every_partition_covers_every_element_once(layout: Layout, partition: Partition) -> None:
    pieces = [piece for block in layout.blocks(partition) for piece in block.pieces]
    assert sorted(piece.tensor for piece in pieces) == sorted(t.name for t in layout.tensors)
    assert sum(piece.stop - piece.start for piece in pieces) == layout.size


@given(st.sets(st.integers(1, 179), max_size=8))
def test_segments_cover_every_element_once_in_model_order(cuts: set[int]) -> None:
    layout = Layout.of(
        Tensor(name=f"model.layers.{i}.w", shape=(4, 3), dtype="F32") for i in range(15)
    )
    blocks = layout.blocks(Segments(boundaries=(0, *sorted(cuts), layout.size)))
    starts = dict(zip((t.name for t in layout.tensors), layout.offsets, strict=False))
    covered = [
        element
        for block in blocks
        for piece in block.pieces
        for element in range(starts[piece.tensor] + piece.start, starts[piece.tensor] + piece.stop)
    ]
    assert covered == list(range(layout.size))


def test_grid_cuts_at_every_tensor_and_inside_large_ones(layout: Layout) -> None:
    grid = layout.grid(cells=30)
    assert set(layout.offsets) <= set(grid)
    assert max(b - a for a, b in pairwise(grid)) <= layout.size / 30 + 1
    assert grid[0] == 0
    assert grid[-1] == layout.size
