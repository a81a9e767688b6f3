"""LoRA adapters as parents, compared with explicit products and with PEFT itself."""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM

from search.problems import Invalid
from search.recipe import Recipe, mixture
from tests.workers.conftest import save
from tests.workers.lora import MODULES, factors, fold, save_adapter
from workers.checkpoints.parents import Parents
from workers.materializer import merged_tensors
from workers.messages import Rejected, Survey, Surveyed, Zoo
from workers.planning.preflight import Preflight, preflight
from workers.survey import survey

QUERY = "model.layers.0.self_attn.q_proj"


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return save(tmp_path / "base", "llama", 0, "float32")


def opened(base: Path, *adapters: Path, dtype: str = "float32") -> Parents:
    parents = tuple((f"p{number}", str(folder)) for number, folder in enumerate(adapters))
    return Parents(Zoo(str(base), parents, dtype))


def check(base: Path, adapter: Path) -> Preflight:
    return preflight(("base.path", base), [("parents[0].path", "p0", adapter)])


def delta(tensors: Mapping[str, Tensor], module: str, scaling: float) -> Tensor:
    a, b = (tensors[f"base_model.model.{module}.lora_{part}.weight"].float() for part in "AB")
    return (b @ a) * scaling


def test_an_adapted_tensor_is_base_plus_scaled_product_and_others_are_the_bases(
    base: Path, tmp_path: Path
) -> None:
    tensors = factors()
    parents = opened(base, save_adapter(tmp_path / "adapter", tensors))
    stored = load_file(base / "model.safetensors")
    for name in stored:
        expected = stored[name]
        if (module := name.removesuffix(".weight")) in MODULES:
            expected = expected + delta(tensors, module, 3 / 2)
            assert not torch.equal(expected, stored[name])
        torch.testing.assert_close(parents.tensor("p0", name), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("config", "rank", "scaling"),
    [
        ({}, 2, 3 / 2),
        ({"use_rslora": True}, 2, 3 / 2**0.5),
        ({"rank_pattern": {"q_proj": 5}}, 5, 3 / 5),
        ({"rank_pattern": {r"layers\.0\..*q_proj": 5}}, 5, 3 / 5),
        ({"rank_pattern": {"^model.layers.0.self_attn.q_proj": 5}}, 5, 3 / 5),
        ({"alpha_pattern": {"layers.1.self_attn.q_proj": 9, "q_proj": 7}}, 2, 7 / 2),
        ({"alpha_pattern": {"proj": 9}}, 2, 3 / 2),  # a part of a word is no module
        ({"r": 4, "lora_alpha": 1, "use_rslora": True}, 4, 1 / 2),
    ],
)
def test_scaling_follows_alpha_rank_and_their_patterns(
    base: Path, tmp_path: Path, config: dict[str, Any], rank: int, scaling: float
) -> None:
    tensors = factors({QUERY: MODULES[QUERY]}, rank=rank)
    parents = opened(base, save_adapter(tmp_path / "adapter", tensors, **config))
    name = f"{QUERY}.weight"
    found = parents.tensor("p0", name) - parents.tensor("base", name)
    torch.testing.assert_close(found, delta(tensors, QUERY, scaling), rtol=1e-5, atol=1e-6)


def test_conv1d_stores_its_weight_the_other_way_round(tmp_path: Path) -> None:
    base = save(tmp_path / "base", "gpt2", 0, "float32")
    module = "transformer.h.0.attn.c_attn"
    tensors = factors({module: (48, 16)})
    adapter = save_adapter(tmp_path / "adapter", tensors, fan_in_fan_out=True)
    parents = opened(base, adapter)
    name = f"{module}.weight"
    expected = load_file(base / "model.safetensors")[name] + delta(tensors, module, 1.5).T
    torch.testing.assert_close(parents.tensor("p0", name), expected, rtol=1e-6, atol=1e-6)
    assert parents.tensor("p0", name).is_contiguous()
    save_adapter(adapter, tensors, fan_in_fan_out=False)
    (problem,) = check(base, adapter).problems
    assert "48x16, and it has 16x48; is fan_in_fan_out right?" in problem.message


def test_files_of_a_body_without_its_prefix_are_understood(tmp_path: Path) -> None:
    """The first GPT-2 files say ``h.0.attn...`` where the model has ``transformer.h.0.attn...``."""
    base = save(tmp_path / "base", "gpt2", 0, "float32")
    file = base / "model.safetensors"
    bare = {name.removeprefix("transformer."): t for name, t in load_file(file).items()}
    save_file(bare, file, metadata={"format": "pt"})
    tensors = factors({"transformer.h.0.attn.c_attn": (48, 16)})
    parents = opened(base, save_adapter(tmp_path / "adapter", tensors, fan_in_fan_out=True))
    changed = [n for n in bare if not torch.equal(parents.tensor("p0", n), bare[n])]
    assert changed == ["h.0.attn.c_attn.weight"]


def test_modules_that_were_trained_in_full_are_taken_whole(base: Path, tmp_path: Path) -> None:
    head = torch.randn(32, 16)
    tensors = factors() | {"base_model.model.lm_head.weight": head}
    parents = opened(base, save_adapter(tmp_path / "a", tensors, modules_to_save=["lm_head"]))
    assert torch.equal(parents.tensor("p0", "lm_head.weight"), head)


def test_adapted_embeddings(base: Path, tmp_path: Path) -> None:
    """PEFT stores a copy of the table beside them, which is then what they are added to."""
    a, b, copy = torch.randn(2, 32), torch.randn(16, 2), torch.randn(32, 16)
    key = "base_model.model.model.embed_tokens"
    tensors = {f"{key}.lora_embedding_A": a, f"{key}.lora_embedding_B": b}
    name = "model.embed_tokens.weight"
    table = load_file(base / "model.safetensors")[name]
    parents = opened(base, save_adapter(tmp_path / "one", tensors))
    found, expected = parents.tensor("p0", name), table + (b @ a).T * 1.5
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
    tensors |= {f"{key}.base_layer.weight": copy}
    parents = opened(base, save_adapter(tmp_path / "two", tensors))
    found, expected = parents.tensor("p0", name), copy + (b @ a).T * 1.5
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


def by_peft(base: Path, adapter: Path) -> dict[str, Tensor]:
    """The state dict that PEFT itself folds an adapter into."""
    from peft import PeftModel

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of PEFT, about transformers
        model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
        folded = PeftModel.from_pretrained(model, adapter).merge_and_unload()
    return {name: t for name, t in folded.state_dict().items() if name != "lm_head.weight"}


@pytest.mark.parametrize("options", [{}, {"use_rslora": True}, {"rank_pattern": {"k_proj": 3}}])
@pytest.mark.parametrize("architecture", ["llama", "qwen2", "gpt2"])
def test_what_peft_trains_is_what_peft_folds(
    tmp_path: Path, architecture: str, options: dict[str, Any]
) -> None:
    from peft import LoraConfig, get_peft_model

    base = save(tmp_path / "base", architecture, 0, "float32")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of PEFT, about transformers
        model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
        wanted = ["c_attn", "c_proj"] if architecture == "gpt2" else ["k_proj", "up_proj"]
        config = LoraConfig(
            r=4,
            lora_alpha=6,
            target_modules=wanted,
            modules_to_save=["ln_f" if architecture == "gpt2" else "norm"],
            task_type="CAUSAL_LM",
            fan_in_fan_out=architecture == "gpt2",
            **options,
        )
        adapted = get_peft_model(model, config)
        with torch.no_grad():
            for parameter in adapted.parameters():
                if parameter.requires_grad:
                    parameter.normal_(std=0.3)
        adapted.save_pretrained(tmp_path / "adapter")
    expected = by_peft(base, tmp_path / "adapter")
    parents = opened(base, tmp_path / "adapter")
    assert check(base, tmp_path / "adapter").problems == ()
    changed = 0
    for tensor in parents.layout.tensors:
        if tensor.name in expected:
            found = parents.tensor("p0", tensor.name)
            torch.testing.assert_close(found, expected[tensor.name], rtol=1e-6, atol=1e-6)
            changed += not torch.equal(found, parents.tensor("base", tensor.name))
    assert changed > 4


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("method", ["linear", "task_arithmetic", "ties", "slerp"])
def test_a_merge_of_adapters_is_the_merge_of_the_folders_they_make(
    tmp_path: Path, dtype: str, method: str
) -> None:
    """To the last bit: the product is formed in float32 and only the result is rounded."""
    base = save(tmp_path / "base", "llama", 0, dtype)
    adapters, folded = [], []
    for seed in range(2):
        tensors = factors(seed=seed, dtype=torch.bfloat16)
        adapters.append(save_adapter(tmp_path / f"adapter{seed}", tensors))
        folded.append(fold(base, tmp_path / f"folded{seed}", tensors, 1.5))
    parameters: dict[str, Any] = (
        {"t": ((0.3,),)} if method == "slerp" else {"weight": ((0.7, 0.6),)}
    )
    if method == "slerp":
        parameters = {"t": (0.3,)}
    recipe = Recipe(method=method, parents=("p0", "p1"), parameters=parameters)
    ours = dict(merged_tensors(opened(base, *adapters, dtype=dtype), recipe))
    theirs = dict(merged_tensors(opened(base, *folded, dtype=dtype), recipe))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_small_change_of_a_base_in_bfloat16_is_not_lost(tmp_path: Path) -> None:
    """Rounded to the base's dtype, the task vector would be nothing at all."""
    base = save(tmp_path / "base", "llama", 0, "bfloat16")
    tensors = {name: t * 1e-3 for name, t in factors().items()}
    parents = opened(base, save_adapter(tmp_path / "adapter", tensors), dtype="bfloat16")
    name = f"{QUERY}.weight"
    before, after = parents.tensor("base", name), parents.tensor("p0", name)
    assert torch.equal(after.bfloat16(), before)
    torch.testing.assert_close(
        after - before.float(), delta(tensors, QUERY, 1.5), rtol=0.01, atol=5e-8
    )
    alone = dict(merged_tensors(parents, mixture(("p0",), (1.0,))))
    assert torch.equal(alone[name], after.bfloat16())


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"peft_type": "IA3"}, "adapter_config.json has peft_type 'IA3'"),
    ({"peft_type": None}, "peft_type None"),
    ({"use_dora": True}, "use_dora: DoRA scales whole rows"),
    ({"bias": "lora_only"}, "bias 'lora_only'"),
    ({"lora_bias": True}, "lora_bias"),
    ({"layer_replication": [[0, 2], [1, 2]]}, "layer_replication"),
    ({"init_lora_weights": "pissa"}, "init_lora_weights 'pissa'"),
    ({"r": 3}, "rank 3 (r, rank_pattern), its factors in adapter_model.safetensors have 2"),
    ({"r": None}, "has r None; expected a positive number"),
    ({"lora_alpha": "8"}, "has lora_alpha '8'"),
    ({"lora_alpha": 10**400}, "has lora_alpha"),
    ({"rank_pattern": [1]}, "no mapping to positive numbers in rank_pattern"),
    ({"alpha_pattern": {"(a+)+b": 1}}, "'(a+)+b' in alpha_pattern, which is too intricate"),
    ({"alpha_pattern": {"[": 1}}, "too intricate"),
    ({"fan_in_fan_out": True}, "changes 'model.layers.0.self_attn.v_proj.weight' by a matrix"),
]


@pytest.mark.parametrize(("config", "says"), REFUSED)
def test_what_is_no_low_rank_sum_of_this_base_is_refused_with_its_field(
    base: Path, tmp_path: Path, config: dict[str, Any], says: str
) -> None:
    adapter = save_adapter(tmp_path / "adapter", factors(), **config)
    problems = check(base, adapter).problems
    assert says in problems[0].message
    assert {problem.field for problem in problems} == {"parents[0].path"}
    with pytest.raises(Invalid):
        opened(base, adapter)


def without(tensors: dict[str, Tensor], part: str) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in tensors.items() if part not in name}


@pytest.mark.parametrize(
    ("tensors", "says"),
    [
        (
            factors({"model.layers.7.self_attn.q_proj": (16, 16)}),
            "which the base does not have",
        ),
        (factors({QUERY: (16, 8)}), "by a matrix of 16x8, and it has 16x16"),
        (without(factors(), "q_proj.lora_B"), "lacks one of the factors A and B"),
        (factors({"model.norm": (16, 1)}), "changes 'model.norm.weight', which is no matrix"),
        ({f"base_model.model.{QUERY}.lora_magnitude_vector": torch.ones(16)}, "magnitude_vector"),
        ({f"base_model.model.{QUERY}.lora_B.bias": torch.ones(16)}, "lora_B.bias"),
        (factors(dtype=torch.float64), "in F64; save it in float32"),
        ({"base_model.model.lm_head.weight": torch.ones(32, 8)}, "32x8 for 32x16"),
        ({}, "holds no tensors"),
    ],
)
def test_tensors_that_do_not_fit_are_refused_by_name(
    base: Path, tmp_path: Path, tensors: dict[str, Tensor], says: str
) -> None:
    problems = check(base, save_adapter(tmp_path / "adapter", tensors)).problems
    assert says in problems[0].message


@pytest.mark.parametrize("module", ["model.embed_tokens", "lm_head"])
def test_one_of_two_tied_tensors_cannot_change_alone(tmp_path: Path, module: str) -> None:
    base = save(tmp_path / "base", "qwen2", 0, "float32")
    whole = {f"base_model.model.{module}.weight": torch.ones(32, 16)}
    for tensors in (factors({module: (32, 16)}), whole):
        (problem,) = check(base, save_adapter(tmp_path / "adapter", tensors)).problems
        assert f"changes '{module}.weight', which the base ties to" in problem.message


def test_a_resized_table_that_was_saved_with_its_head_is_one_tensor(tmp_path: Path) -> None:
    base = save(tmp_path / "base", "qwen2", 0, "float32")
    table = torch.randn(40, 16)
    tensors = factors({QUERY: MODULES[QUERY]})
    tensors |= {f"base_model.model.{m}.weight": table for m in ("model.embed_tokens", "lm_head")}
    tensors = {name: tensor.clone() for name, tensor in tensors.items()}
    adapter = save_adapter(tmp_path / "adapter", tensors)
    assert check(base, adapter).problems == ()
    found = opened(base, adapter).tensor("p0", "model.embed_tokens.weight")
    assert torch.equal(found, table[:32])


def test_a_foreign_adapter_is_a_handful_of_problems(base: Path, tmp_path: Path) -> None:
    modules = {f"model.layers.{n}.self_attn.q_proj": (16, 16) for n in range(2, 12)}
    problems = check(base, save_adapter(tmp_path / "adapter", factors(modules))).problems
    assert len(problems) == 6
    assert problems[-1].message == "adapter_model.safetensors has 5 more problems like these"


def test_headers_are_checked_before_data(base: Path, tmp_path: Path) -> None:
    adapter = save_adapter(tmp_path / "adapter", factors())
    file = adapter / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-8])
    assert "adapter_model.safetensors is truncated" in check(base, adapter).problems[0].message
    file.unlink()
    (adapter / "adapter_model.bin").write_bytes(b"\x80\x04N.")
    messages = [problem.message for problem in check(base, adapter).problems]
    assert "adapter_model.bin is a pickle" in messages[0]
    (adapter / "adapter_config.json").write_text("[")
    assert any(
        "adapter_config.json is not valid" in p.message for p in check(base, adapter).problems
    )


def test_a_base_is_no_adapter(base: Path, tmp_path: Path) -> None:
    adapter = save_adapter(tmp_path / "adapter", factors())
    found = preflight(("base.path", adapter), [("parents[0].path", "p0", adapter)])
    assert "is an adapter; a base is a whole checkpoint" in found.problems[0].message


@pytest.mark.parametrize(
    ("said", "warned"), [("lab/base", False), ("/mnt/base", False), (None, False), ("a/b", True)]
)
def test_an_adapter_of_another_base_is_worth_a_warning(
    base: Path, tmp_path: Path, said: str | None, warned: bool
) -> None:
    adapter = save_adapter(tmp_path / "adapter", factors(), base_model_name_or_path=said)
    found = check(base, adapter)
    assert found.problems == ()
    assert [w.message for w in found.warnings if "'a/b'" in w.message] == [
        w.message for w in found.warnings
    ]
    assert bool(found.warnings) == warned


def test_what_a_pattern_costs_is_not_its_authors_to_choose(base: Path, tmp_path: Path) -> None:
    patterns = {"a*" * n + "!": 1 for n in range(1, 20)} | {r".*.*.*!": 2}
    adapter = save_adapter(tmp_path / "adapter", factors(), alpha_pattern=patterns)
    start = time.perf_counter()
    assert check(base, adapter).problems
    assert time.perf_counter() - start < 2


def test_an_adapter_is_surveyed_and_counted_by_its_own_file(
    base: Path, tmp_path: Path, edit_weights: Callable[..., None]
) -> None:
    tensors = {name: 0.1 * tensor for name, tensor in factors().items()}  # as training would
    adapter = save_adapter(tmp_path / "adapter", tensors)
    found = check(base, adapter)
    model = found.checkpoint_bytes
    assert found.memory_bytes == 2 * model + sum(t.nbytes for t in tensors.values())
    assert [facts.architecture for facts in found.models] == [
        "LlamaForCausalLM",
        "LoRA on LlamaForCausalLM",
    ]
    surveyed = survey(Survey(needs_geometry=True), opened(base, adapter))
    assert isinstance(surveyed, Surveyed)
    assert set(surveyed.sha256) == {"base/model.safetensors", "p0/adapter_model.safetensors"}
    bad = {**tensors, f"base_model.model.{QUERY}.lora_A.weight": torch.full((2, 16), torch.nan)}
    rejected = survey(Survey(needs_geometry=False), opened(base, save_adapter(adapter, bad)))
    assert isinstance(rejected, Rejected)
    assert [field for field, _ in rejected.problems] == ["p0/adapter_model.safetensors"]
    assert json.loads((adapter / "adapter_config.json").read_text())["r"] == 2
