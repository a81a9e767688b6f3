"""Rows of embeddings belong to tokens, and tokens are told by their strings."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from search.problems import Invalid
from search.recipe import Recipe, mixture
from tests.workers.conftest import VOCABULARY, save
from workers.checkpoints.parents import Parents
from workers.checkpoints.vocabulary import Alignment, Vocabulary, align
from workers.materializer import merged_tensors
from workers.messages import Zoo
from workers.planning.preflight import preflight

TABLES = ("model.embed_tokens.weight", "lm_head.weight")


def vocabulary(*tokens: str, **rules: str) -> Vocabulary:
    return Vocabulary({token: number for number, token in enumerate(tokens)}, rules)


def rows(base: Vocabulary, parent: Vocabulary, ours: int, theirs: int) -> list[int] | None:
    index = align(base, parent).rows(ours, theirs)
    return None if index is None else index.tolist()


def test_equal_vocabularies_need_no_index_even_where_the_parent_is_padded() -> None:
    same = vocabulary("a", "b", "c")
    assert rows(same, same, 3, 3) is None
    assert rows(same, same, 3, 8) is None
    assert rows(same, same, 8, 8) is None


def test_a_padded_base_keeps_its_own_padding() -> None:
    same = vocabulary("a", "b", "c")
    assert rows(same, same, 5, 3) == [0, 1, 2, -1, -1]


def test_tokens_are_found_under_other_ids() -> None:
    assert rows(vocabulary("a", "b", "c"), vocabulary("c", "a", "b"), 3, 3) == [1, 2, 0]


def test_tokens_that_the_parent_lacks_keep_the_bases_row() -> None:
    base, parent = vocabulary("a", "b", "c"), vocabulary("a", "x", "c")
    assert rows(base, parent, 3, 3) == [0, -1, 2]
    assert align(base, parent).dropped == ("x",)


def test_a_row_that_only_the_parent_uses_is_no_padding_of_the_base() -> None:
    assert rows(vocabulary("a", "b"), vocabulary("a", "b", "<new>"), 4, 4) == [0, 1, -1, 3]


def test_a_token_without_a_row_keeps_the_bases() -> None:
    base, parent = vocabulary("a", "b", "c"), vocabulary("a", "b", "c")
    assert rows(base, parent, 3, 2) == [0, 1, -1]


def test_the_plan_counts_tokens() -> None:
    plan = align(vocabulary("a", "b", "c", "d"), vocabulary("a", "c", "b", "x"))
    assert (plan.kept, plan.moved, plan.missing, plan.dropped) == (1, 2, 1, ("x",))
    assert plan.summary == (
        "its tokenizer differs: 1 tokens have the base's ids, the rows of 2 are moved to theirs, "
        "1 are missing and keep the base's rows, 'x' of its own are left out"
    )
    assert Alignment().summary is None


@pytest.mark.parametrize(
    ("parent", "says"),
    [
        (vocabulary("a", "b", model="WordPiece"), "cuts text by other rules (model)"),
        (vocabulary("a", "b", pre_tokenizer="spaces"), "other rules (pre_tokenizer)"),
        (vocabulary("x", "y", "z"), "has only 0 of the base's 2 tokens"),
    ],
)
def test_tokenizers_of_other_families_are_told(parent: Vocabulary, says: str) -> None:
    base = vocabulary("a", "b", model="BPE", pre_tokenizer="bytes")
    (problem,) = align(base, parent).problems
    assert says in problem


def test_without_a_list_of_tokens_the_order_is_taken_to_be_the_same() -> None:
    assert rows(vocabulary("a", "b"), Vocabulary({}, {"tokenizer.model": "00"}), 2, 2) is None


def resave(folder: Path, table: Tensor, ids: Mapping[str, int] | None) -> Path:
    """Another table of rows, and the tokenizer that goes with it."""
    file = folder / "model.safetensors"
    state = load_file(file) | dict.fromkeys(TABLES, table)
    state = {name: tensor.clone() for name, tensor in state.items()}
    save_file(state, file, metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"vocab_size": len(table)}))
    path = folder / "tokenizer.json"
    document: dict[str, Any] = json.loads(path.read_text())
    if ids is not None:
        document["model"]["vocab"] = ids
        for token in document["added_tokens"]:
            token["id"] = ids[token["content"]]
    path.write_text(json.dumps(document))
    return folder


def tokens(folder: Path) -> dict[str, int]:
    found: dict[str, int] = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    return found


@pytest.fixture
def zoo(tmp_path: Path) -> Zoo:
    folders = [save(tmp_path / name, "llama", n, "float32") for n, name in enumerate(("base", "p"))]
    return Zoo(str(folders[0]), (("p", str(folders[1])),), "float32")


def parent(zoo: Zoo) -> Path:
    return Path(zoo.parents[0][1])


def test_a_merge_matches_rows_by_token(zoo: Zoo) -> None:
    """The parent's tokens are shuffled, one is missing and one is new: rows follow their tokens."""
    rng = np.random.default_rng(0)
    order = rng.permutation(VOCABULARY)
    ids = {token: int(order[number]) for token, number in tokens(Path(zoo.base)).items()}
    gone = next(iter(set(ids) - {"[UNK]", "<s>", "</s>"}))
    ids["new"] = ids.pop(gone)
    table = torch.randn(VOCABULARY, 16)
    resave(parent(zoo), table, ids)
    found = preflight(("base", Path(zoo.base)), [("parents[0]", "p", parent(zoo))])
    assert found.problems == ()
    assert "1 are missing and keep the base's rows" in found.warnings[0].message
    merged = dict(merged_tensors(Parents(zoo), mixture(("p",), (1.0,))))
    base = load_file(Path(zoo.base) / "model.safetensors")
    for name in TABLES:
        for token, row in tokens(Path(zoo.base)).items():
            expected = table[ids[token]] if token in ids else base[name][row]
            assert torch.equal(merged[name][row], expected), token


@pytest.mark.parametrize("padded", ["base", "parent"])
def test_padded_embeddings_just_work(zoo: Zoo, padded: str) -> None:
    folder = Path(zoo.base) if padded == "base" else parent(zoo)
    resave(folder, torch.randn(40, 16), None)
    assert preflight(("base", Path(zoo.base)), [("parents[0]", "p", parent(zoo))]).problems == ()
    recipe = Recipe(method="task_arithmetic", parents=("p",), parameters={"weight": ((1.0,),)})
    merged = dict(merged_tensors(Parents(zoo), recipe))
    base, theirs = (load_file(f / "model.safetensors") for f in (Path(zoo.base), parent(zoo)))
    for name in TABLES:
        assert merged[name].shape == base[name].shape
        torch.testing.assert_close(merged[name][:VOCABULARY], theirs[name][:VOCABULARY])
        assert torch.equal(merged[name][VOCABULARY:], base[name][VOCABULARY:])


def test_a_tokenizer_of_another_family_cannot_be_opened(zoo: Zoo) -> None:
    resave(
        parent(zoo),
        torch.randn(VOCABULARY, 16),
        {f"x{n}": n for n in range(29)} | {"[UNK]": 29, "<s>": 30, "</s>": 31},
    )
    with pytest.raises(Invalid, match="has only 3 of the base's 32 tokens"):
        Parents(zoo)
