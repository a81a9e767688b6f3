"""Chromosomes and units, from the names of tensors and the blocks of a space."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import pytest

from search.crossover import Chromosomes
from search.layout import LayerGroups, Layout, Module
from search.splitting import SplitAt, gene_chromosomes, grid_chromosomes
from tests.search.optimizers.analytic import Setup

HALVES = LayerGroups(layers=2, modules=("attention", "mlp"))


def of_grid(
    layout: Layout, split_at: SplitAt, modules: Collection[Module] = (), most: int = 1000
) -> Chromosomes:
    grid = np.array(layout.grid(cells=90))
    return grid_chromosomes(
        layout, grid, split_at=split_at, blocks=HALVES, modules=modules, most=most
    )


@pytest.mark.parametrize(
    ("split_at", "places"),
    [
        ("tensor", 15),
        # Embedding; attention, MLP and norm of each half; final norm and head.
        ("block", 9),
        # Tensors of twelve elements in cells of two.
        ("element", 90),
    ],
)
def test_models_are_split_between(layout: Layout, split_at: SplitAt, places: int) -> None:
    chromosomes = of_grid(layout, split_at)
    assert chromosomes.names == ("rest",)
    assert len(chromosomes.starts[0]) == places


def test_blocks_are_in_pieces_where_modules_take_turns(layout: Layout) -> None:
    """Four layers of three tensors each, in two halves: every tensor is a run of its own."""
    first, joined = of_grid(layout, "block").joined()
    assert len(first) == 15
    assert len(set(joined.place)) == 9


def test_modules_are_chromosomes_and_all_else_is_the_rest(layout: Layout) -> None:
    chromosomes = of_grid(layout, "tensor", ("attention", "mlp"))
    names = np.array(chromosomes.names)[chromosomes.chromosome]
    assert set(names) == {"attention", "mlp", "rest"}
    tensors = names[::6]  # six cells each
    expected = [
        "rest" if "norm" in t.name or "layers" not in t.name else "" for t in layout.tensors
    ]
    for found, rest, tensor in zip(tensors, expected, layout.tensors, strict=True):
        assert found == (rest or ("mlp" if "mlp" in tensor.name else "attention"))


def test_a_module_that_the_model_does_not_have_is_none(layout: Layout) -> None:
    without = Layout(tensors=tuple(t for t in layout.tensors if "attn" not in t.name))
    assert of_grid(without, "tensor", ("attention",)).names == ("rest",)


def test_places_are_thinned_in_every_chromosome(layout: Layout) -> None:
    chromosomes = of_grid(layout, "element", ("attention",), most=5)
    assert [len(starts) for starts in chromosomes.starts] == [5, 5]


def test_genes_of_a_block_are_together_or_not() -> None:
    space = Setup("m2n2", blocks=4, parents=3).space
    for split_at, places in (("element", 12), ("block", 4), ("tensor", 4)):
        chromosomes = gene_chromosomes(space, split_at=split_at, modules=(), most=1000)
        assert len(chromosomes.starts[0]) == places


def test_genes_are_of_the_module_of_their_block() -> None:
    setup = Setup("m2n2", blocks=4, parents=2, tensors=("mlp.w", "attn.w"))
    chromosomes = gene_chromosomes(
        setup.space, split_at="block", modules=("attention", "mlp"), most=1000
    )
    names = np.array(chromosomes.names)[chromosomes.chromosome]
    assert names.tolist() == ["mlp", "mlp", "attention", "attention"] * 2


def test_genes_of_the_whole_model_are_of_no_module() -> None:
    setup = Setup("m2n2", blocks=4, tensors=("mlp.w", "attn.w"), partition="model")
    chromosomes = gene_chromosomes(setup.space, split_at="block", modules=("mlp",), most=1000)
    assert chromosomes.names == ("rest",)
