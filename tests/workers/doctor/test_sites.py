from __future__ import annotations

from typing import Any

import pytest

from workers.doctor.sites import Group, Heads, group_of, sites

LAYER = "model.layers.3"


def names(*parts: str) -> list[str]:
    return [f"{LAYER}.{part}" for part in parts]


ATTENTION = names(*(f"self_attn.{part}_proj.weight" for part in "qkvo"))
MLP = names(*(f"mlp.{part}_proj.weight" for part in ("gate", "up", "down")))


def test_a_layer_has_an_attention_and_an_mlp() -> None:
    norms = names("input_layernorm.weight", "post_attention_layernorm.weight")
    bias = names("self_attn.q_proj.bias")
    attention, mlp = sites([*ATTENTION, *bias, *MLP, *norms, "model.norm.weight"])[::-1]
    if not attention.is_attention:
        attention, mlp = mlp, attention
    assert attention.weights["q"] == f"{LAYER}.self_attn.q_proj.weight"
    assert attention.biases == {"q": bias[0]}
    assert (attention.norm, mlp.norm) == tuple(norms)
    assert mlp.weights.keys() == {"gate", "up", "down"}


def test_where_the_mlp_has_a_norm_of_its_own_it_is_that() -> None:
    norms = names("post_attention_layernorm.weight", "pre_feedforward_layernorm.weight")
    (mlp,) = sites([*MLP, *norms])
    assert mlp.norm == norms[1]


@pytest.mark.parametrize(
    "stored",
    [
        ATTENTION[:3],
        names("attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight"),
        names("self_attn.qkv_proj.weight", "mlp.gate_up_proj.weight", "mlp.down_proj.weight"),
        names(*(f"mlp.experts.0.{part}_proj.weight" for part in ("gate", "up", "down"))),
    ],
)
def test_what_is_incomplete_or_has_other_names_is_no_site(stored: list[str]) -> None:
    assert sites(stored) == []


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("model.embed_tokens.weight", "embed"),
        ("transformer.wte.weight", "embed"),
        ("lm_head.weight", "head"),
        ("model.norm.weight", "norm"),
        ("transformer.h.0.ln_1.weight", "norm"),
        ("model.layers.0.post_attention_layernorm.weight", "norm"),
        ("model.layers.0.self_attn.q_norm.weight", "norm"),
        ("model.layers.0.self_attn.k_proj.bias", "qk"),
        ("model.layers.0.self_attn.o_proj.weight", "vo"),
        ("model.layers.0.mlp.down_proj.weight", "mlp"),
        ("transformer.h.0.attn.c_attn.weight", "other"),
    ],
)
def test_tensors_are_grouped_by_kind_of_module(name: str, group: Group) -> None:
    assert group_of(name) == group


@pytest.mark.parametrize(
    ("config", "heads"),
    [
        ({"num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 16}, Heads(8, 2, 16)),
        ({"num_attention_heads": 8, "hidden_size": 64}, Heads(8, 8, 8)),
        ({"num_attention_heads": 8, "num_key_value_heads": 3, "head_dim": 16}, None),
        ({"num_attention_heads": 8, "hidden_size": 65}, None),
        ({"num_attention_heads": "8", "hidden_size": 64}, None),
        ({}, None),
    ],
)
def test_heads_are_what_the_configuration_says(config: dict[str, Any], heads: Heads | None) -> None:
    assert Heads.of(config) == heads
