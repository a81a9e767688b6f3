"""A checkpoint folder is put into the base's order and scales, and proven to be the same model."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.testing import assert_close
from transformers import Olmo2Config, Olmo2ForCausalLM

from tests.tiny import save_llama
from tests.workers.alignments import CASES, alignment, logits
from workers.doctor.realign import NotAligned, align, write_aligned

MLP = "model.layers.1.mlp"
ATTENTION = "model.layers.0.self_attn"


def write(folder: Path, state: dict[str, Tensor]) -> None:
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.fixture
def base(tmp_path: Path) -> Path:
    save_llama(tmp_path / "base", seed=0)
    return tmp_path / "base"


@pytest.fixture
def honest(tmp_path: Path) -> Path:
    save_llama(tmp_path / "honest", seed=0, learned=1)
    return tmp_path / "honest"


def permute(folder: Path) -> dict[str, Tensor]:
    """Neurons of one MLP, and the groups of one attention; the weights as they were."""
    before = load_file(folder / "model.safetensors")
    after = dict(before)
    torch.manual_seed(0)
    order = torch.randperm(64)
    for part in ("gate", "up"):
        after[f"{MLP}.{part}_proj.weight"] = before[f"{MLP}.{part}_proj.weight"][order]
    after[f"{MLP}.down_proj.weight"] = before[f"{MLP}.down_proj.weight"][:, order]
    for part in ("q", "k", "v"):
        name = f"{ATTENTION}.{part}_proj.weight"
        after[name] = before[name].view(2, -1, 32).flip(0).reshape(-1, 32)
    name = f"{ATTENTION}.o_proj.weight"
    after[name] = before[name].view(32, 2, -1).flip(1).reshape(32, -1)
    write(folder, {name: tensor.contiguous() for name, tensor in after.items()})
    return before


def lock(folder: Path) -> None:
    """Change the basis of the values of one attention."""
    state = load_file(folder / "model.safetensors")
    basis = torch.randn(8, 8, generator=torch.Generator().manual_seed(0)) + torch.eye(8)
    value, output = (f"model.layers.1.self_attn.{part}_proj.weight" for part in "vo")
    state[value] = (basis @ state[value].view(2, 8, 32)).reshape(16, 32)
    state[output] = (state[output].view(32, 4, 8) @ basis.inverse()).reshape(32, 32)
    write(folder, state)


def test_a_permuted_folder_is_restored_to_the_last_bit(
    base: Path, honest: Path, tmp_path: Path
) -> None:
    before = permute(honest)
    files = write_aligned(base, honest, tmp_path / "out")
    assert {"model.safetensors", "config.json", "tokenizer.json"} <= files.keys()
    written = load_file(tmp_path / "out" / "model.safetensors")
    assert written.keys() == before.keys()
    assert all(torch.equal(written[name], tensor) for name, tensor in before.items())


def test_a_folder_in_order_is_said_to_be(base: Path, honest: Path, tmp_path: Path) -> None:
    with pytest.raises(NotAligned, match="in the base's order and scales already"):
        write_aligned(base, honest, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_lock_is_refused_and_named(base: Path, honest: Path, tmp_path: Path) -> None:
    lock(honest)
    with pytest.raises(NotAligned, match="cannot be aligned: it is locked: v_proj and o_proj"):
        write_aligned(base, honest, tmp_path / "out")


def test_a_lock_beneath_a_permutation_is_refused(base: Path, honest: Path, tmp_path: Path) -> None:
    permute(honest)
    lock(honest)
    with pytest.raises(NotAligned, match="even when aligned it is locked: v_proj and o_proj"):
        write_aligned(base, honest, tmp_path / "out")


def scale(folder: Path, *, dtype: torch.dtype) -> None:
    """Fold a norm into its projections, and scale neurons up and down."""
    state = {n: t.float() for n, t in load_file(folder / "model.safetensors").items()}
    random = torch.Generator().manual_seed(0)
    columns = torch.rand(32, generator=random) * 3 + 0.3
    rows = torch.randn(64, generator=random) * 2
    state["model.layers.1.post_attention_layernorm.weight"] *= columns
    for part in ("gate", "up"):
        state[f"{MLP}.{part}_proj.weight"] /= columns
    state[f"{MLP}.up_proj.weight"] *= rows[:, None]
    state[f"{MLP}.down_proj.weight"] /= rows
    write(folder, {name: tensor.to(dtype) for name, tensor in state.items()})


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_scales_beneath_a_permutation_are_taken_back(
    base: Path, honest: Path, tmp_path: Path, dtype: torch.dtype
) -> None:
    before = permute(honest)
    scale(honest, dtype=dtype)
    write_aligned(base, honest, tmp_path / "out")
    written = load_file(tmp_path / "out" / "model.safetensors")
    for name, tensor in before.items():
        assert written[name].dtype == dtype
        assert (written[name].float() - tensor).norm() < 0.1 * tensor.norm(), name


@pytest.mark.parametrize("identifier", CASES)
def test_what_is_aligned_is_the_published_original_and_locks_are_refused(identifier: str) -> None:
    case = alignment(identifier)
    readers = [partial(dict.__getitem__, case.models[name]) for name in ("base", "m0")]
    names = list(case.original)
    if identifier == "align_lock_vo":
        with pytest.raises(NotAligned, match="is locked"):
            align(names, *readers, case.heads)
        return
    read = align(names, *readers, case.heads)
    tolerance = case.case["extra"]["rel_frobenius_tolerance_per_tensor"]
    for name, tensor in case.original.items():
        assert (read(name) - tensor).norm() <= tolerance * tensor.norm(), name
    found = logits(case.case, {name: read(name) for name in names}, case.ids)
    assert_close(found, case.logits, rtol=1e-6, atol=1e-6)


def olmo2(folder: Path, seed: int) -> dict[str, Tensor]:
    """A model whose queries are normalized across heads: one weight for each row of q."""
    torch.manual_seed(0)
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "vocab_size": 64}
    model = Olmo2ForCausalLM(Olmo2Config(**heads, **sizes, initializer_range=0.3))
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.rand_like(weight) if weight.dim() == 1 else 0)
        torch.manual_seed(seed)
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight), alpha=0.05 * float(weight.std()))
    model.save_pretrained(folder)
    return load_file(folder / "model.safetensors")


def test_an_architecture_that_couples_more_is_found_out(tmp_path: Path) -> None:
    olmo2(tmp_path / "base", 1)
    state = olmo2(tmp_path / "parent", 2)
    for part in ("q", "k", "v"):
        name = f"{ATTENTION}.{part}_proj.weight"
        state[name] = state[name].view(2, -1, 32).flip(0).reshape(-1, 32)
    name = f"{ATTENTION}.o_proj.weight"
    state[name] = state[name].view(32, 2, -1).flip(1).reshape(32, -1)
    for part in ("q", "k"):
        name = f"{ATTENTION}.{part}_norm.weight"
        state[name] = state[name].view(2, -1).flip(0).reshape(-1)
    write(tmp_path / "parent", state)
    with pytest.raises(NotAligned, match="its architecture couples other tensors"):
        write_aligned(tmp_path / "base", tmp_path / "parent", tmp_path / "out")
    assert not (tmp_path / "out").exists()
