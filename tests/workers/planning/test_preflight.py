from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from search.problems import Invalid
from workers.checkpoints.parents import Parents
from workers.messages import Zoo
from workers.planning.preflight import Preflight, preflight

MakeZoo = Callable[..., Zoo]
Edit = Callable[..., None]


def check(zoo: Zoo) -> Preflight:
    parents = [(f"parents[{i}].path", n, Path(p)) for i, (n, p) in enumerate(zoo.parents)]
    return preflight(("base.path", Path(zoo.base)), parents)


def folder(zoo: Zoo, parent: str = "one") -> Path:
    return Path(dict(zoo.parents)[parent])


def refused(zoo: Zoo, *, field: str = "parents[0].path") -> str:
    """The message of the one problem that is reported."""
    problems = check(zoo).problems
    assert [problem.field for problem in problems] == [field], problems
    return problems[0].message


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "gpt2"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_good_models_pass(make_zoo: MakeZoo, architecture: str, dtype: str) -> None:
    zoo = make_zoo(architecture, dtype)
    found = check(zoo)
    model = AutoModelForCausalLM.from_pretrained(zoo.base)
    size = sum(p.numel() for p in model.parameters())
    element = 4 if dtype == "float32" else 2
    assert found.problems == found.warnings == ()
    assert found.dtype == dtype
    assert found.parameters == size
    assert found.checkpoint_bytes == size * element
    assert found.memory_bytes == 4 * size * element
    assert found.layout is not None
    tied = architecture != "llama"
    assert bool(found.layout.aliases) == tied


def test_a_missing_folder(make_zoo: MakeZoo) -> None:
    zoo = make_zoo()
    shutil.rmtree(folder(zoo))
    assert "is not a folder" in refused(zoo)


def test_an_empty_folder(make_zoo: MakeZoo) -> None:
    zoo = make_zoo()
    shutil.rmtree(folder(zoo))
    folder(zoo).mkdir()
    assert "is empty; expected config.json and model.safetensors" in refused(zoo)


def test_a_missing_weight_file(make_zoo: MakeZoo) -> None:
    zoo = make_zoo()
    (folder(zoo) / "model.safetensors").unlink()
    assert "model.safetensors is missing" in refused(zoo)


@pytest.fixture
def sharded(make_zoo: MakeZoo) -> Zoo:
    return make_zoo(max_shard_size="4KB")


def index_of(zoo: Zoo) -> tuple[Path, dict[str, Any]]:
    path = folder(zoo) / "model.safetensors.index.json"
    return path, json.loads(path.read_text())


def test_shards_pass(sharded: Zoo) -> None:
    assert check(sharded).problems == ()
    assert len(list(folder(sharded).glob("model-*.safetensors"))) > 1


def test_a_missing_shard(sharded: Zoo) -> None:
    shard = sorted(folder(sharded).glob("model-*.safetensors"))[1]
    shard.unlink()
    message = next(m for m in _messages(sharded) if "is missing" in m)
    assert message.startswith(shard.name)
    assert "copy the folder again" in message


def test_a_truncated_shard(sharded: Zoo) -> None:
    shard = sorted(folder(sharded).glob("model-*.safetensors"))[1]
    shard.write_bytes(shard.read_bytes()[:-10])
    message = refused(sharded)
    assert message.startswith(f"{shard.name} is truncated")


def _messages(zoo: Zoo) -> list[str]:
    return [problem.message for problem in check(zoo).problems]


def test_an_index_that_names_an_absent_tensor(sharded: Zoo) -> None:
    path, index = index_of(sharded)
    index["weight_map"]["model.ghost.weight"] = next(iter(index["weight_map"].values()))
    path.write_text(json.dumps(index))
    assert "places 'model.ghost.weight' in files that do not hold them" in refused(sharded)


def test_an_index_that_forgets_a_tensor(sharded: Zoo) -> None:
    path, index = index_of(sharded)
    del index["weight_map"]["model.norm.weight"]
    path.write_text(json.dumps(index))
    assert "does not list 'model.norm.weight'" in refused(sharded)


@pytest.mark.parametrize("shard", ["../model.safetensors", "/etc/passwd", "model.bin", ""])
def test_an_index_that_leads_out_of_the_folder(sharded: Zoo, shard: str) -> None:
    path, index = index_of(sharded)
    index["weight_map"]["model.norm.weight"] = shard
    path.write_text(json.dumps(index))
    assert any("no safetensors file of this folder" in m for m in _messages(sharded))


@pytest.mark.parametrize("content", ["", "[", "[" * 20_000, "{}", '{"weight_map": 3}', "[]"])
def test_a_broken_index(sharded: Zoo, content: str) -> None:
    index_of(sharded)[0].write_text(content)
    assert "model.safetensors.index.json" in refused(sharded)


class Marker:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_the_marker_works(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    pickle.loads(pickle.dumps(Marker(marker)))
    assert marker.exists()


@pytest.mark.parametrize(
    "name", ["pytorch_model.bin", "model.pt", "consolidated.00.pth", "last.ckpt", "weights"]
)
@pytest.mark.parametrize("alone", [True, False])
def test_pickled_weights_are_never_opened(
    make_zoo: MakeZoo, tmp_path: Path, name: str, alone: bool
) -> None:
    zoo = make_zoo()
    marker = tmp_path / "marker"
    (folder(zoo) / name).write_bytes(pickle.dumps(Marker(marker)))
    if alone:
        (folder(zoo) / "model.safetensors").unlink()
    message = next(m for m in _messages(zoo) if "pickle" in m)
    assert message.startswith(name)
    assert "convert it to safetensors" in message
    with pytest.raises(Invalid):
        Parents(zoo)
    assert not marker.exists()


def test_a_pickle_named_safetensors_is_never_opened(make_zoo: MakeZoo, tmp_path: Path) -> None:
    zoo = make_zoo()
    torch.save({"weight": torch.ones(3)}, folder(zoo) / "model.safetensors")
    assert "is a pickle under another name" in refused(zoo)


def test_what_a_trainer_leaves_behind_is_no_reason_to_refuse(make_zoo: MakeZoo) -> None:
    zoo = make_zoo()
    for name in ("training_args.bin", "optimizer.pt", "rng_state_0.pth", "scheduler.pt"):
        (folder(zoo) / name).write_bytes(pickle.dumps({}))
    assert check(zoo).problems == ()


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_remote_code_is_never_run(
    make_zoo: MakeZoo, edit_json: Edit, tmp_path: Path, name: str
) -> None:
    zoo = make_zoo()
    marker = tmp_path / "marker"
    (folder(zoo) / "evil.py").write_text(f"open({str(marker)!r}, 'w')")
    edit_json(folder(zoo) / name, auto_map={"AutoConfig": "evil.Config"})
    assert refused(zoo).startswith(f"{name} has an auto_map")
    assert not marker.exists()


def test_quantized_weights(make_zoo: MakeZoo, edit_json: Edit, edit_weights: Edit) -> None:
    zoo = make_zoo()
    edit_json(folder(zoo) / "config.json", quantization_config={"bits": 4})
    assert "quantized weights cannot be merged" in refused(zoo)
    edit_json(folder(zoo) / "config.json", quantization_config=None)
    name = "model.layers.0.mlp.up_proj.weight"
    edit_weights(folder(zoo), lambda state: state.update({name: state[name].to(torch.int8)}))
    assert f"holds quantized weights ('{name}')" in _messages(zoo)[0]


def test_double_precision(make_zoo: MakeZoo, edit_weights: Edit) -> None:
    zoo = make_zoo()
    edit_weights(folder(zoo), lambda s: s.update({k: v.double() for k, v in s.items()}))
    assert "float64" in _messages(zoo)[0]


@pytest.mark.parametrize("content", ["", "{", "[]", "[" * 20_000, '{"a": NaN'])
def test_a_broken_configuration(make_zoo: MakeZoo, content: str) -> None:
    zoo = make_zoo()
    (folder(zoo) / "config.json").write_text(content)
    assert refused(zoo).startswith("config.json is not")


def test_a_missing_configuration(make_zoo: MakeZoo) -> None:
    zoo = make_zoo()
    (folder(zoo) / "config.json").rename(folder(zoo) / "adapter_config.json")
    assert "is an adapter" in refused(zoo)
    (folder(zoo) / "adapter_config.json").unlink()
    assert "config.json is missing" in refused(zoo)


def test_an_architecture_that_nobody_knows(make_zoo: MakeZoo, edit_json: Edit) -> None:
    zoo = make_zoo()
    for path in (Path(zoo.base), folder(zoo), folder(zoo, "two")):
        edit_json(path / "config.json", model_type="perceptron")
    assert "model_type 'perceptron'" in refused(zoo, field="base.path")


def test_another_shape(make_zoo: MakeZoo, edit_weights: Edit) -> None:
    zoo = make_zoo()
    name = "model.layers.1.mlp.up_proj.weight"
    edit_weights(folder(zoo), lambda state: state.update({name: torch.zeros(25, 16)}))
    message = refused(zoo)
    assert name in message
    assert "25x16 for 24x16" in message


def test_padded_embeddings_are_worth_a_warning(make_zoo: MakeZoo, edit_weights: Edit) -> None:
    zoo = make_zoo()
    name = "model.embed_tokens.weight"
    edit_weights(folder(zoo), lambda state: state.update({name: torch.zeros(40, 16)}))
    found = check(zoo)
    assert found.problems == ()
    (warning,) = found.warnings
    assert "has 40 rows in 'model.embed_tokens.weight', the base 32" in warning.message


def test_rows_of_another_width(make_zoo: MakeZoo, edit_weights: Edit) -> None:
    zoo = make_zoo()
    name = "model.embed_tokens.weight"
    edit_weights(folder(zoo), lambda state: state.update({name: torch.zeros(32, 8)}))
    assert "other shapes than the base in 'model.embed_tokens.weight': 32x8 for 32x16" in refused(
        zoo
    )


def test_other_positions_are_no_other_vocabulary(make_zoo: MakeZoo, edit_weights: Edit) -> None:
    zoo = make_zoo("gpt2")
    name = "transformer.wpe.weight"
    edit_weights(folder(zoo), lambda state: state.update({name: torch.zeros(40, 16)}))
    assert f"other shapes than the base in '{name}'" in refused(zoo)


def test_another_kind_of_model(make_zoo: MakeZoo, edit_json: Edit) -> None:
    zoo = make_zoo()
    edit_json(folder(zoo) / "config.json", num_attention_heads=4)
    assert "num_attention_heads 4, the base's has 2" in refused(zoo)


def test_missing_and_extra_tensors(make_zoo: MakeZoo, edit_weights: Edit) -> None:
    zoo = make_zoo()

    def rename(state: dict[str, Tensor]) -> None:
        state["model.other.weight"] = state.pop("model.norm.weight")

    edit_weights(folder(zoo), rename)
    lacks, has = _messages(zoo)
    assert lacks.startswith("lacks 'model.norm.weight'")
    assert has.startswith("has 'model.other.weight'")


def test_a_parent_with_a_head_of_its_own(
    make_zoo: MakeZoo, edit_weights: Edit, edit_json: Edit
) -> None:
    zoo = make_zoo("qwen2")
    head = {"lm_head.weight": torch.zeros(32, 16)}
    edit_weights(folder(zoo), lambda state: state.update(head))
    assert check(zoo).problems == ()  # config.json says that it is tied: the copy is redundant
    edit_json(folder(zoo) / "config.json", tie_word_embeddings=False)
    assert any("its own 'lm_head.weight'" in message for message in _messages(zoo))


def test_other_ids_for_the_same_tokens(make_zoo: MakeZoo) -> None:
    zoo = make_zoo()
    path = folder(zoo) / "tokenizer.json"
    document = json.loads(path.read_text())
    vocabulary = document["model"]["vocab"]
    vocabulary["w3"], vocabulary["w4"] = vocabulary["w4"], vocabulary["w3"]
    path.write_text(json.dumps(document))
    found = check(zoo)
    assert found.problems == ()
    assert "30 tokens have the base's ids, the rows of 2 are moved" in found.warnings[0].message


def test_a_tokenizer_of_another_family(make_zoo: MakeZoo) -> None:
    zoo = make_zoo()
    path = folder(zoo) / "tokenizer.json"
    document = json.loads(path.read_text())
    document["model"]["vocab"] = {f"x{n}": n for n in range(32)}
    document["added_tokens"] = []
    path.write_text(json.dumps(document))
    assert "its tokenizer has only 0 of the base's 32 tokens" in refused(zoo)


def test_other_rules_for_cutting_text(make_zoo: MakeZoo) -> None:
    zoo = make_zoo()
    path = folder(zoo) / "tokenizer.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"pre_tokenizer": None}))
    assert "cuts text by other rules (pre_tokenizer)" in refused(zoo)


def test_new_tokens_are_worth_a_warning(make_zoo: MakeZoo) -> None:
    zoo = make_zoo()
    path = folder(zoo) / "tokenizer.json"
    document = json.loads(path.read_text())
    document["model"]["vocab"]["<|im_start|>"] = 40
    path.write_text(json.dumps(document))
    found = check(zoo)
    assert found.problems == ()
    assert "'<|im_start|>'" in found.warnings[0].message


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"model": {"vocab": 3}}'])
def test_a_broken_tokenizer(make_zoo: MakeZoo, content: str) -> None:
    zoo = make_zoo()
    (folder(zoo) / "tokenizer.json").write_text(content)
    assert refused(zoo).startswith("tokenizer.json")


def test_a_base_without_a_tokenizer(make_zoo: MakeZoo) -> None:
    zoo = make_zoo()
    (Path(zoo.base) / "tokenizer.json").unlink()
    assert "no tokenizer.json" in refused(zoo, field="base.path")


def test_another_dtype_is_worth_a_warning(make_zoo: MakeZoo, edit_weights: Edit) -> None:
    zoo = make_zoo()
    edit_weights(folder(zoo), lambda s: s.update({k: v.bfloat16() for k, v in s.items()}))
    found = check(zoo)
    assert found.problems == ()
    assert "stored in bfloat16, the base in float32" in found.warnings[0].message


def test_every_model_is_described(make_zoo: MakeZoo) -> None:
    zoo = make_zoo("qwen2", "bfloat16")
    (folder(zoo) / "chat_template.jinja").write_text("{{ messages }}")
    (folder(zoo) / "README.md").write_text("---\nlicense: mit\n---\n")
    base, one, two = check(zoo).models
    assert (base.name, one.name, two.name) == ("base", "one", "two")
    assert base.architecture == "Qwen2ForCausalLM"
    assert (base.dtype, base.tied, base.licence) == ("bfloat16", True, None)
    assert base.parameters == check(zoo).parameters
    assert base.size_bytes == 2 * base.parameters
    assert [model.chat_template for model in (base, one, two)] == ["none", "its own", "none"]
    assert one.licence == "mit"


def test_another_chat_template_is_worth_a_warning(make_zoo: MakeZoo) -> None:
    zoo = make_zoo()
    for path in (Path(zoo.base), folder(zoo)):
        (path / "chat_template.jinja").write_text("{{ messages }}")
    (folder(zoo, "two") / "chat_template.jinja").write_text("{{ messages[0] }}")
    found = check(zoo)
    assert [warning.field for warning in found.warnings] == ["parents[1].path"]
    assert "has a chat template of its own" in found.warnings[0].message
    assert [model.chat_template for model in found.models] == [
        "the base's",
        "the base's",
        "its own",
    ]


def test_what_is_copied_from_the_base_is_told_with_the_reason(
    make_zoo: MakeZoo, edit_weights: Edit
) -> None:
    zoo = make_zoo("qwen2")
    assert check(zoo).copied == ()
    more = {
        "model.rotary_emb.inv_freq": torch.ones(4),
        "model.position_ids": torch.arange(4),
        "lm_head.weight": torch.zeros(32, 16),
    }
    edit_weights(Path(zoo.base), lambda state: state.update(more))
    found = check(zoo)
    assert found.problems == ()
    reasons = {copied.tensors: copied.reason for copied in found.copied}
    assert "a buffer" in reasons[("model.rotary_emb.inv_freq",)]
    assert "whole numbers" in reasons[("model.position_ids",)]
    assert "tied" in reasons[("lm_head.weight",)]


def test_licences_that_differ_are_worth_a_warning(make_zoo: MakeZoo) -> None:
    zoo = make_zoo()
    card = "---\nlicense: {}\ntags: [a]\n---\n# A model\n"
    (Path(zoo.base) / "README.md").write_text(card.format("apache-2.0"))
    (folder(zoo) / "README.md").write_text(card.format("apache-2.0"))
    (folder(zoo, "two") / "README.md").write_text(card.format("cc-by-nc-4.0"))
    found = check(zoo)
    assert [warning.field for warning in found.warnings] == ["parents[1].path"]
    assert "has licence cc-by-nc-4.0, the base apache-2.0" in found.warnings[0].message


@pytest.mark.parametrize("card", ["---\n" + "[" * 5000, "---\na: b: c\n---\n", "", "# no header"])
def test_a_strange_model_card_is_no_reason_to_refuse(make_zoo: MakeZoo, card: str) -> None:
    zoo = make_zoo()
    (folder(zoo) / "README.md").write_text(card)
    assert check(zoo).problems == ()


def test_all_problems_are_gathered(make_zoo: MakeZoo, edit_json: Edit) -> None:
    zoo = make_zoo()
    edit_json(Path(zoo.base) / "config.json", auto_map={"AutoConfig": "evil.Config"})
    (folder(zoo) / "model.safetensors").unlink()
    shutil.rmtree(folder(zoo, "two"))
    fields = [problem.field for problem in check(zoo).problems]
    assert fields == ["base.path", "parents[0].path", "parents[1].path"]
