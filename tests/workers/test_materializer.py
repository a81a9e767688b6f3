from __future__ import annotations

import hashlib
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.testing import assert_close
from transformers import AutoModelForCausalLM

from search.layout import LayerGroups, Partition, Segments
from search.recipe import Recipe, mixture
from workers.checkpoints.parents import Parents
from workers.checkpoints.writing import write_checkpoint
from workers.materializer import Materializer, merged_tensors
from workers.merging.merge_method import NotMergeable, methods
from workers.messages import Zoo

MakeZoo = Callable[..., Zoo]
TOKENS = torch.tensor([[3, 1, 4, 1, 5, 9, 2, 6], [30, 7, 1, 8, 2, 8, 1, 31]])
ARCHITECTURES = ("llama", "qwen2", "gpt2")
DTYPES = ("float32", "bfloat16", "float16")


def load(folder: str | Path, dtype: str) -> Any:
    return AutoModelForCausalLM.from_pretrained(
        folder, dtype=getattr(torch, dtype), use_safetensors=True
    )


def logits(model: torch.nn.Module) -> Tensor:
    with torch.inference_mode():
        return model(TOKENS).logits


def recipe_of(parents: Parents, method: str, partition: Partition = "model") -> Recipe:
    """Different numbers everywhere, so that a mix-up of blocks or parents would show."""
    blocks = tuple(block.name for block in parents.layout.blocks(partition))
    declaration = methods[method].declaration
    declared = {p.name: p for p in declaration.parameters}
    values: dict[str, Any] = {}
    if "weight" in declared:
        values["weight"] = tuple((0.3 + 0.01 * n, 0.5 - 0.02 * n) for n in range(len(blocks)))
    if "density" in declared and declared["density"].per_parent:
        values["density"] = tuple((0.4 + 0.001 * n, 0.7) for n in range(len(blocks)))
    if "t" in declared:
        values["t"] = tuple((n + 1) / (len(blocks) + 1) for n in range(len(blocks)))
    return Recipe(
        method=method,
        parents=("one", "two")[: declaration.maximum_parents],
        partition=partition,
        blocks=blocks,
        parameters=values,
        seed=7,
    )


def export(parents: Parents, recipe: Recipe, folder: Path) -> Path:
    write_checkpoint(folder, merged_tensors(parents, recipe), Path(parents.zoo.base))
    return folder


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_logits_after_a_swap_in_place_equal_those_of_the_exported_folder(
    make_zoo: MakeZoo, tmp_path: Path, architecture: str, dtype: str
) -> None:
    zoo = make_zoo(architecture, dtype)
    parents = Parents(zoo)
    model = load(zoo.base, dtype)
    untouched = logits(model)
    materializer = Materializer(parents, model)
    for method in methods:
        recipe = recipe_of(parents, method.name, LayerGroups(modules=("attention", "mlp")))
        materializer.materialize(recipe)
        exported = load(export(parents, recipe, tmp_path / method.name), dtype)
        assert torch.equal(logits(model), logits(exported)), method.name
        assert not torch.equal(logits(model), untouched)


@pytest.mark.parametrize(
    "partition", ["model", "tensor", LayerGroups(layers=2), LayerGroups(modules=("mlp",))]
)
def test_every_partition_is_merged_as_its_blocks_say(
    make_zoo: MakeZoo, partition: Partition
) -> None:
    parents = Parents(make_zoo())
    recipe = recipe_of(parents, "task_arithmetic", partition)
    merged = dict(merged_tensors(parents, recipe))
    for number, block in enumerate(parents.layout.blocks(partition)):
        first, second = recipe.at(number)["weight"]  # type: ignore[misc]  # a row per parent
        for piece in block.pieces:
            base, one, two = (parents.tensor(m, piece.tensor) for m in ("base", "one", "two"))
            expected = base + first * (one - base) + second * (two - base)
            assert_close(merged[piece.tensor], expected)


def test_segments_cut_tensors_in_two(make_zoo: MakeZoo) -> None:
    parents = Parents(make_zoo())
    size = parents.layout.size
    boundaries = (0, size // 3, size // 3 + 5, size)
    recipe = Recipe(
        method="linear",
        parents=("base", "one", "two"),
        partition=Segments(boundaries=boundaries),
        blocks=tuple(f"{a}:{b}" for a, b in pairwise(boundaries)),
        parameters={
            "weight": ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.25, 0.75)),
            "normalize": False,
        },
    )
    merged = dict(merged_tensors(parents, recipe))

    def flat(model: str) -> Tensor:
        return torch.cat([parents.tensor(model, t.name).view(-1) for t in parents.layout.tensors])

    ours = torch.cat([merged[t.name].view(-1) for t in parents.layout.tensors])
    base, one, two = flat("base"), flat("one"), flat("two")
    first, second, third = boundaries[1], boundaries[2], boundaries[3]
    assert torch.equal(ours[:first], base[:first])
    assert torch.equal(ours[first:second], one[first:second])
    mixed = 0.25 * one[second:third] + 0.75 * two[second:third]
    assert_close(ours[second:third], mixed)


@pytest.mark.parametrize("name", ["base", "one", "two"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_single_model_is_reproduced_to_the_bit(make_zoo: MakeZoo, name: str, dtype: str) -> None:
    zoo = make_zoo(dtype=dtype)
    parents = Parents(zoo)
    model = load(zoo.base, dtype)
    materializer = Materializer(parents, model)
    materializer.materialize(recipe_of(parents, "ties"))
    materializer.materialize(mixture((name,), (1.0,)))
    folders = {"base": zoo.base, **dict(zoo.parents)}
    assert torch.equal(logits(model), logits(load(folders[name], dtype)))


def test_tied_weights_stay_tied_and_nothing_is_allocated_anew(make_zoo: MakeZoo) -> None:
    zoo = make_zoo("qwen2")
    parents = Parents(zoo)
    model = load(zoo.base, "float32")
    before = {name: p.data_ptr() for name, p in model.named_parameters(remove_duplicate=False)}
    Materializer(parents, model).materialize(recipe_of(parents, "linear"))
    after = {name: p.data_ptr() for name, p in model.named_parameters(remove_duplicate=False)}
    assert before == after
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert parents.layout.aliases == {"lm_head.weight": "model.embed_tokens.weight"}


def test_the_files_of_the_parents_are_never_written(make_zoo: MakeZoo) -> None:
    zoo = make_zoo()
    folders = [zoo.base, *(path for _, path in zoo.parents)]

    def digests() -> list[str]:
        files = [Path(folder) / "model.safetensors" for folder in folders]
        return [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]

    before = digests()
    parents = Parents(zoo)
    materializer = Materializer(parents, load(zoo.base, "float32"))
    for method in methods:
        materializer.materialize(recipe_of(parents, method.name))
    assert digests() == before


def test_a_model_in_another_dtype_gets_the_rounded_values(
    make_zoo: MakeZoo, tmp_path: Path
) -> None:
    zoo = make_zoo()
    parents = Parents(Zoo(base=zoo.base, parents=zoo.parents, dtype="bfloat16"))
    model = load(zoo.base, "bfloat16")
    model.model.norm.to(torch.float32)  # as transformers keeps some modules
    recipe = recipe_of(parents, "task_arithmetic")
    Materializer(parents, model).materialize(recipe)
    exported = load(export(parents, recipe, tmp_path / "out"), "bfloat16")
    for (name, ours), theirs in zip(model.named_parameters(), exported.parameters(), strict=True):
        assert torch.equal(ours.bfloat16(), theirs), name


def test_masks_do_not_depend_on_what_was_merged_before(make_zoo: MakeZoo) -> None:
    zoo = make_zoo()
    parents = Parents(zoo)
    recipe = recipe_of(parents, "dare_ties")
    once = dict(merged_tensors(parents, recipe))
    list(merged_tensors(parents, recipe_of(parents, "dare_linear")))
    again = dict(merged_tensors(Parents(zoo), recipe))
    other = dict(merged_tensors(parents, recipe.model_copy(update={"seed": 8})))
    assert all(torch.equal(once[name], again[name]) for name in once)
    assert not all(torch.equal(once[name], other[name]) for name in once)


@pytest.mark.parametrize("method", ["linear", "ties", "dare_ties", "della", "slerp"])
def test_any_number_of_threads_merges_the_same(make_zoo: MakeZoo, method: str) -> None:
    zoo = make_zoo("llama", "bfloat16")
    threads, states = torch.get_num_threads(), []
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            parents, model = Parents(zoo), load(zoo.base, "bfloat16")
            recipe = recipe_of(parents, method, LayerGroups())
            Materializer(parents, model).materialize(recipe)
            states.append(model.state_dict())
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_what_fails_in_one_thread_is_told_after_all_have_ended(make_zoo: MakeZoo) -> None:
    parents = Parents(make_zoo("llama", "bfloat16"))
    model = load(parents.zoo.base, "bfloat16")
    materializer, threads = Materializer(parents, model), torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        with pytest.raises(NotMergeable, match="is not finite after the merge"):
            materializer.materialize(mixture(("one", "two"), (3e38, 3e38)))
        materializer.materialize(mixture(("one",), (1.0,)))
    finally:
        torch.set_num_threads(threads)
    one = load(dict(parents.zoo.parents)["one"], "bfloat16")
    assert torch.equal(logits(model), logits(one))


def test_overflow_is_told_with_the_name_of_the_tensor(make_zoo: MakeZoo) -> None:
    zoo = make_zoo(dtype="float16")
    parents = Parents(zoo)
    recipe = mixture(("one",), (1e9,))
    materializer = Materializer(parents, load(zoo.base, "float16"))
    with pytest.raises(NotMergeable, match=r"'model\.\S+' is not finite"):
        materializer.materialize(recipe)
    with pytest.raises(NotMergeable, match="is not finite"):
        list(merged_tensors(parents, recipe))
    materializer.materialize(mixture(("one",), (1.0,)))  # the next candidate is not harmed


def test_a_checkpoint_is_not_written_of_a_broken_model(make_zoo: MakeZoo) -> None:
    zoo = make_zoo()
    file = Path(dict(zoo.parents)["two"]) / "model.safetensors"
    tensors = load_file(file)
    name = next(name for name in tensors if name.endswith("up_proj.weight"))
    tensors[name][0, 0] = torch.nan
    save_file(tensors, file, metadata={"format": "pt"})
    parents = Parents(zoo)
    # A trim would drop it, and a weight of 0 pass it over.
    for recipe in (recipe_of(parents, "ties"), mixture(("one", "two"), (1.0, 0.0))):
        with pytest.raises(NotMergeable, match=f"'{name}' of parent 'two' is not finite"):
            list(merged_tensors(parents, recipe))


@pytest.mark.parametrize(
    ("recipe", "reason"),
    [
        (mixture(("one", "nobody"), (0.5, 0.5)), "no model is called nobody"),
        (Recipe(method="linear", parents=("one",), blocks=("other",)), "blocks are not those"),
        (
            Recipe(method="linear", parents=("one", "two"), parameters={"weight": ((1.0, -1.0),)}),
            "sum to 0",
        ),
        (Recipe(method="slerp", parents=("one",)), "exactly 2 parents"),
        (
            Recipe(method="ties", parents=("one",), parameters={"density": 20.0}),
            r"density: is 20, but must be .*fraction",
        ),
    ],
)
def test_a_recipe_that_does_not_fit_is_refused(
    make_zoo: MakeZoo, recipe: Recipe, reason: str
) -> None:
    parents = Parents(make_zoo())
    with pytest.raises(NotMergeable, match=reason):
        list(merged_tensors(parents, recipe))


def test_a_model_that_computes_with_other_tensors_is_refused(make_zoo: MakeZoo) -> None:
    zoo = make_zoo()
    model = load(zoo.base, "float32")
    model.model.extra = torch.nn.Linear(3, 3)
    with pytest.raises(NotMergeable, match=r"do not hold 'model\.extra\.weight'"):
        Materializer(Parents(zoo), model)


def test_buffers_are_the_bases_and_are_not_merged(
    make_zoo: MakeZoo, edit_weights: Callable[..., None]
) -> None:
    zoo = make_zoo()
    key = "model.layers.0.self_attn.rotary_emb.inv_freq"
    for number, folder in enumerate((zoo.base, *(path for _, path in zoo.parents))):
        buffers = {key: torch.full((4,), float(number)), "steps": torch.tensor([number])}
        edit_weights(Path(folder), lambda state, extra=buffers: state.update(extra))
    parents = Parents(zoo)
    assert key not in {t.name for t in parents.layout.tensors}
    merged = dict(merged_tensors(parents, mixture(("one",), (1.0,))))
    assert torch.equal(merged[key], torch.zeros(4))
    assert torch.equal(merged["steps"], torch.tensor([0]))


def test_files_without_the_prefix_of_the_body_fit_as_well(
    make_zoo: MakeZoo, edit_weights: Callable[..., None]
) -> None:
    zoo = make_zoo("gpt2")

    def shorten(state: dict[str, Tensor]) -> None:
        for name in list(state):
            state[name.removeprefix("transformer.")] = state.pop(name)

    for folder in (zoo.base, *(path for _, path in zoo.parents)):
        edit_weights(Path(folder), shorten)
    parents = Parents(zoo)
    model = load(zoo.base, "float32")
    Materializer(parents, model).materialize(mixture(("two",), (1.0,)))
    assert torch.equal(logits(model), logits(load(dict(zoo.parents)["two"], "float32")))


def test_sharded_parents_merge_like_single_files(make_zoo: MakeZoo, tmp_path: Path) -> None:
    single = Parents(make_zoo())
    recipe = recipe_of(single, "ties")
    whole = {name: tensor.clone() for name, tensor in merged_tensors(single, recipe)}
    single.close()
    for folder in (tmp_path / "base", tmp_path / "one", tmp_path / "two"):
        load(folder, "float32").save_pretrained(folder, max_shard_size="4KB")
        (folder / "model.safetensors").unlink(missing_ok=True)
    sharded = Parents(single.zoo)
    assert len(set(sharded.base.files.values())) > 1
    for name, tensor in merged_tensors(sharded, recipe):
        assert torch.equal(tensor, whole[name])
