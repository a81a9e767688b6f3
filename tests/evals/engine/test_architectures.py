"""A tree in one pass says what HFLM says, on every kind of attention; or it is not used."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evals.engine import Engine
from evals.engine.stems import Stems
from evals.requests import Answer, Continuation, Prompt, Request, Text

# Sums of float32 logarithms in another order.
NOISE = 1e-4

SMALL = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "vocab_size": 266,
    "max_position_embeddings": 256,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 2,
    "initializer_range": 0.3,
}
OLD = {
    "n_embd": 32,
    "n_layer": 3,
    "n_head": 4,
    "n_positions": 256,
    "vocab_size": 266,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "initializer_range": 0.3,
}
MIXED = ["sliding_attention", "full_attention", "sliding_attention"]
SHARING: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", SMALL),
    "llama, eager": ("llama", SMALL | {"attn_implementation": "eager"}),
    "llama, no head of its own": ("llama", SMALL | {"tie_word_embeddings": True}),
    "mistral, window of 40": ("mistral", SMALL | {"sliding_window": 40}),
    "qwen2": ("qwen2", SMALL),
    "qwen3, window of 40": (
        "qwen3",
        SMALL | {"use_sliding_window": True, "sliding_window": 40, "layer_types": MIXED},
    ),
    "gemma2, eager, window of 40": (
        "gemma2",
        SMALL | {"sliding_window": 40, "layer_types": MIXED, "attn_implementation": "eager"},
    ),
    "gemma3, window of 40": (
        "gemma3_text",
        SMALL | {"sliding_window": 40, "layer_types": MIXED},
    ),
    "gpt2, learned positions": ("gpt2", OLD),
    "gpt_neox": ("gpt_neox", {k: v for k, v in SMALL.items() if k != "num_key_value_heads"}),
    "opt, learned positions": (
        "opt",
        {k: SMALL[k] for k in ("hidden_size", "vocab_size", "max_position_embeddings")}
        | {"num_hidden_layers": 3, "num_attention_heads": 4, "ffn_dim": 48, "init_std": 0.3}
        | {"word_embed_proj_dim": 32, "pad_token_id": 2, "bos_token_id": 0, "eos_token_id": 1},
    ),
    "phi3": ("phi3", {k: v for k, v in SMALL.items() if k != "head_dim"}),
    "mixture of experts": (
        "mixtral",
        SMALL | {"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": None},
    ),
}
ALONE: dict[str, tuple[str, dict[str, Any]]] = {
    "bloom, distances instead of positions": (
        "bloom",
        {"hidden_size": 32, "n_layer": 3, "n_head": 4, "vocab_size": 266}
        | {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2},
    ),
    "mamba, a state instead of attention": (
        "mamba",
        {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 4, "vocab_size": 266}
        | {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2},
    ),
    "qwen3_next, both": (
        "qwen3_next",
        SMALL
        | {"layer_types": ["linear_attention", "full_attention", "full_attention"]}
        | {"linear_num_key_heads": 2, "linear_num_value_heads": 2, "num_experts": 0}
        | {"linear_key_head_dim": 8, "linear_value_head_dim": 8, "mlp_only_layers": [0, 1, 2]},
    ),
}


def build(kind: str, options: dict[str, Any]) -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM

    options = dict(options)
    attention = options.pop("attn_implementation", None)
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, **options)
    return AutoModelForCausalLM.from_config(config, attn_implementation=attention).eval()


def questions() -> list[Request]:
    """Choices behind contexts: with shots and without, short and longer than any window."""
    rng = random.Random(0)

    def words(count: int) -> str:
        return "".join(rng.choice("abcdefgh tehr") for _ in range(count)).strip() or "a"

    shots = "Q: the cab A: her\n" * 5
    asked: list[Request] = []
    for number in range(9):
        before = ("", shots, shots, words(60))[number % 4]
        context = before + "Q: " + words(rng.randint(2, 20)) + " A:"
        asked += [Continuation(context, " " + words(rng.randint(1, 6))) for _ in range(3)]
        asked += [Continuation(context, letter) for letter in "ab"]
    return [*asked, Text(words(100)), Continuation("", "abc")]


def stock_answers(model: Any, tokenizer: Any, requests: list[Request]) -> list[Any]:
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    lm = HFLM(pretrained=model, tokenizer=tokenizer, device="cpu", batch_size=1)

    def ask(kind: str, arguments: list[tuple[str, ...]]) -> list[Any]:
        instances = [
            Instance(request_type=kind, doc={}, arguments=a, idx=0)  # type: ignore[arg-type]
            for a in arguments
        ]
        answers: list[Any] = getattr(lm, kind)(instances, disable_tqdm=True)
        return answers

    # One after the other, but for the tokenizing: HFLM shares what it reads only within a call.
    return [
        Answer(*ask("loglikelihood", [(r.context, r.continuation)])[0])
        if isinstance(r, Continuation)
        else ask("loglikelihood_rolling", [(r.text,)])[0]
        for r in requests
        if not isinstance(r, Prompt)
    ]


def written(model: Any, tokenizer: Any, prompts: list[Request]) -> list[Any]:
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    lm = HFLM(pretrained=model, tokenizer=tokenizer, device="cpu", batch_size=1)
    instances = [
        Instance(
            request_type="generate_until",
            doc={},
            arguments=(p.context, {"until": list(p.until), "max_gen_toks": p.max_tokens}),
            idx=0,
        )
        for p in prompts
        if isinstance(p, Prompt)
    ]
    answers: list[Any] = lm.generate_until(instances, disable_tqdm=True)
    return answers


def assert_same(ours: list[Any], theirs: list[Any]) -> None:
    for mine, stock in zip(ours, theirs, strict=True):
        if isinstance(mine, Answer):
            assert mine.loglikelihood == pytest.approx(stock.loglikelihood, abs=NOISE)
            assert mine.greedy == stock.greedy
        else:
            assert mine == pytest.approx(stock, abs=NOISE)


@pytest.mark.parametrize("name", SHARING)
def test_shared_contexts_change_no_answer(name: str, tokenizer: Any) -> None:
    model = build(*SHARING[name])
    engine = Engine(model, tokenizer)
    asked = questions()
    plan = engine.prepare(asked)
    assert "contexts shared" in engine.plan_fingerprint
    assert any(batch.exits is not None for batch in plan.batches)
    if "window" not in name:  # texts beyond a window are read alone
        rows = {r.context: len(tokenizer.encode(r.context)) for r in asked[:-2]}  # type: ignore[union-attr]
        read = sum(batch.inputs.numel() for batch in plan.batches)
        assert read < 2 * sum(rows.values())
    ours = engine.run(plan)
    assert_same(ours, stock_answers(model, tokenizer, asked))
    assert engine.run(plan) == ours


@pytest.mark.parametrize("name", ["llama", "qwen3, window of 40", "gpt2, learned positions"])
def test_prompts_that_begin_alike_are_answered_as_if_each_stood_alone(
    name: str, tokenizer: Any
) -> None:
    kind, options = SHARING[name]
    model = build(kind, options | ({"sliding_window": 120} if "window" in name else {}))
    engine = Engine(model, tokenizer)
    shots = "Q: the cab A: her\n" * 3
    asked: list[Request] = [
        Prompt(shots + "Q: " + "ab the"[: 1 + n] * (1 + n % 3), ("e", "b"), 3 + n % 4)
        for n in range(12)
    ]
    asked.append(Prompt("a", ("e",), 5))
    plan = engine.prepare(asked)
    assert any(writing.stem for writing in plan.writings)
    ours = engine.run(plan)
    assert ours == written(model, tokenizer, asked)
    assert ours == [engine.run(engine.prepare([prompt]))[0] for prompt in asked]


@pytest.mark.parametrize("name", ALONE)
def test_where_a_tree_cannot_be_read_every_row_is_read_alone(name: str, tokenizer: Any) -> None:
    model = build(*ALONE[name])
    engine = Engine(model, tokenizer)
    assert "one row each" in engine.plan_fingerprint
    asked = questions()[:15]
    plan = engine.prepare(asked)
    assert all(batch.exits is None and not batch.stem for batch in plan.batches)
    assert_same(engine.run(plan), stock_answers(model, tokenizer, asked))


def test_a_model_that_ignores_positions_fails_the_check(tokenizer: Any) -> None:
    """What the configuration does not tell, trying does."""
    model = build(*SHARING["llama"])
    assert "shared" in Engine(model, tokenizer).plan_fingerprint
    rotate = model.model.rotary_emb.forward

    def by_index(x: torch.Tensor, position_ids: torch.Tensor) -> Any:
        return rotate(x, torch.arange(position_ids.shape[1])[None].expand_as(position_ids))

    model.model.rotary_emb.forward = by_index
    model.config.nickname = "another"  # a configuration is tried once
    assert "one row each" in Engine(model, tokenizer).plan_fingerprint


def test_the_check_does_not_depend_on_the_weights(tokenizer: Any) -> None:
    model = build(*SHARING["llama"])
    model.config.nickname = "without weights"
    with torch.no_grad():
        for weight in model.parameters():
            weight.fill_(torch.nan)
    assert "shared" in Engine(model, tokenizer).plan_fingerprint
    assert all(bool(weight.isnan().all()) for weight in model.parameters())


def test_the_plan_tells_what_the_last_bits_of_results_depend_on(tokenizer: Any) -> None:
    model = build(*SHARING["llama"])
    one, other = (Engine(model, tokenizer, token_limit=n).plan_fingerprint for n in (64, 128))
    assert one.startswith("float32, cpu, sdpa, contexts shared")
    assert one.replace("64 tokens", "128 tokens") == other
    assert one == Engine(model, tokenizer, token_limit=64).plan_fingerprint
    halved = Engine(model.to(torch.bfloat16), tokenizer, token_limit=64).plan_fingerprint
    assert halved == one.replace("float32", "bfloat16")


def test_what_is_shared_is_read_once_for_parts_of_a_task(tokenizer: Any) -> None:
    model = build(*SHARING["llama"])
    engine = Engine(model, tokenizer)
    shots = "the cab and the her " * 8
    asked: list[Request] = [
        Continuation(f"{shots}{n} is", f" {c}") for n in range(60) for c in "abc"
    ]
    whole = engine.run(engine.prepare(asked))
    parts = [engine.prepare(asked[:90]), engine.prepare(asked[90:])]
    (stem,) = {batch.stem for part in parts for batch in part.batches}
    read: list[int] = []
    model.model.register_forward_pre_hook(
        lambda _, __, given: read.append(given["input_ids"].shape[1]), with_kwargs=True
    )
    stems = Stems()
    answers = [answer for part in parts for answer in engine.run(part, stems)]
    assert read.count(len(stem)) == 1
    assert [a.loglikelihood for a in answers] == pytest.approx(  # type: ignore[union-attr]
        [a.loglikelihood for a in whole],  # type: ignore[union-attr]
        abs=NOISE,
    )


def test_in_bfloat16_answers_are_those_of_its_logits_in_float32(tokenizer: Any) -> None:
    model = build(*SHARING["llama"]).to(torch.bfloat16)
    asked = questions()[:14]
    ours = Engine(model, tokenizer).run(Engine(model, tokenizer).prepare(asked))
    for answer, request in zip(ours, asked, strict=True):
        assert isinstance(request, Continuation)
        assert isinstance(answer, Answer)
        context = tokenizer.encode(request.context)
        whole = tokenizer.encode(request.context + request.continuation)
        with torch.inference_mode():
            logits = model(torch.tensor([whole[:-1]])).logits[0, len(context) - 1 :].float()
        expected = logits.log_softmax(-1)[torch.arange(len(logits)), whole[len(context) :]].sum()
        # What is left is the rounding of the hidden states, which adds up in another order.
        assert answer.loglikelihood == pytest.approx(float(expected), abs=0.25)


contexts = st.lists(st.sampled_from(["the ", "cab", " a", "x", "e"]), max_size=12).map("".join)
answers = st.lists(st.sampled_from([" a", "b", "the"]), min_size=1, max_size=5).map("".join)


@settings(max_examples=15)
@given(
    st.lists(
        st.tuples(contexts, st.lists(answers, min_size=1, max_size=4)), min_size=1, max_size=8
    ),
    st.sampled_from([1, 64, 1024]),
)
def test_drawn_questions_are_answered_as_hflm_answers_them(
    tokenizer: Any, drawn: list[tuple[str, list[str]]], limit: int
) -> None:
    model = build(*SHARING["llama"])
    asked: list[Request] = [
        Continuation("the cab" + context, answer) for context, some in drawn for answer in some
    ]
    engine = Engine(model, tokenizer, token_limit=limit)
    try:
        plan = engine.prepare(asked)
    except ValueError:  # an answer that merges into its context has no tokens
        return
    assert_same(engine.run(plan), stock_answers(model, tokenizer, asked))
