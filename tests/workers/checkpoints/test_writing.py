from __future__ import annotations

import errno
import hashlib
import json
import os
import subprocess
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from search.recipe import mixture
from workers.checkpoints.parents import Parents
from workers.checkpoints.writing import write_checkpoint
from workers.materializer import merged_tensors
from workers.messages import Zoo
from workers.planning.preflight import preflight

MakeZoo = Callable[..., Zoo]
HALF = mixture(("one", "two"), (0.5, 0.5))


def test_a_written_folder_is_a_checkpoint_like_any_other(make_zoo: MakeZoo, tmp_path: Path) -> None:
    zoo = make_zoo("gpt2", "bfloat16")
    (Path(zoo.base) / "chat_template.jinja").write_text("{{ messages }}")
    (Path(zoo.base) / "additional_chat_templates").mkdir()
    (Path(zoo.base) / "additional_chat_templates" / "tools.jinja").write_text("{{ tools }}")
    folder = tmp_path / "out" / "best"
    files = write_checkpoint(
        folder,
        merged_tensors(Parents(zoo), HALF),
        Path(zoo.base),
        extra={"README.md": "# Best", "recipe.json": HALF.canonical()},
    )
    written = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert set(files) == written
    assert set(files) >= {
        "additional_chat_templates/tools.jinja",
        "model.safetensors",
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "chat_template.jinja",
        "README.md",
        "recipe.json",
        "SHA256SUMS",
    }
    for name, (digest, size) in files.items():
        content = (folder / name).read_bytes()
        assert (hashlib.sha256(content).hexdigest(), len(content)) == (digest, size)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype="auto", use_safetensors=True)
    assert model.dtype == torch.bfloat16
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer("w3 w5")["input_ids"] == [3, 5]
    assert tokenizer.chat_template == {"default": "{{ messages }}", "tools": "{{ tools }}"}
    assert preflight(("base.path", folder), [("one", "one", folder)]).problems == ()
    assert not list(folder.parent.glob(".*"))


def test_checksums_are_what_the_usual_tool_reads(make_zoo: MakeZoo, tmp_path: Path) -> None:
    zoo = make_zoo()
    folder = tmp_path / "out"
    write_checkpoint(folder, merged_tensors(Parents(zoo), HALF), Path(zoo.base))

    def check() -> int:
        command = ["sha256sum", "--check", "--quiet", "SHA256SUMS"]
        return subprocess.run(command, cwd=folder, check=False, capture_output=True).returncode

    assert check() == 0
    with (folder / "model.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x55")
    assert check() != 0


def test_shards_follow_the_hubs_conventions(make_zoo: MakeZoo, tmp_path: Path) -> None:
    zoo = make_zoo()
    merged = {name: t.clone() for name, t in merged_tensors(Parents(zoo), HALF)}
    folder = tmp_path / "out"
    files = write_checkpoint(folder, iter(merged.items()), Path(zoo.base), shard_bytes=5000)
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    shards = sorted(set(index["weight_map"].values()))
    count = len(shards)
    assert count > 1
    assert shards == [f"model-{n:05}-of-{count:05}.safetensors" for n in range(1, count + 1)]
    assert index["metadata"]["total_size"] == sum(t.nbytes for t in merged.values())
    assert all(files[shard][1] < 5000 + 4096 for shard in shards)
    for name, shard in index["weight_map"].items():
        assert torch.equal(load_file(folder / shard)[name], merged[name])
    model = AutoModelForCausalLM.from_pretrained(folder, use_safetensors=True)
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, merged[name])


def test_at_most_a_shard_and_a_tensor_are_in_memory(make_zoo: MakeZoo, tmp_path: Path) -> None:
    """Constant memory: however large the model, tensors die when their shard is written."""
    zoo = make_zoo()
    live = peak = largest = total = 0

    def dead(size: int) -> None:
        nonlocal live
        live -= size

    def counted() -> Iterator[tuple[str, Tensor]]:
        nonlocal live, peak, largest, total
        for name, tensor in merged_tensors(Parents(zoo), HALF):
            live, total = live + tensor.nbytes, total + tensor.nbytes
            peak, largest = max(peak, live), max(largest, tensor.nbytes)
            weakref.finalize(tensor, dead, tensor.nbytes)
            yield name, tensor

    shard_bytes = 4000
    write_checkpoint(tmp_path / "out", counted(), Path(zoo.base), shard_bytes=shard_bytes)
    assert peak <= shard_bytes + largest
    assert total > 3 * (shard_bytes + largest)


def test_tensors_of_every_kind_survive(make_zoo: MakeZoo, tmp_path: Path) -> None:
    zoo = make_zoo()
    tensors = {
        "odd": torch.arange(3, dtype=torch.bfloat16),
        "wide": torch.arange(5.0, dtype=torch.float64),
        "turned": torch.arange(6.0).reshape(2, 3).t(),
        "none": torch.empty(0, 2),
        "scalar": torch.tensor(7),
        "mask": torch.tensor([True, False]),
    }
    write_checkpoint(tmp_path / "out", iter(tensors.items()), Path(zoo.base))
    loaded = load_file(tmp_path / "out" / "model.safetensors")
    assert loaded.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert torch.equal(loaded[name], tensor)
        assert loaded[name].dtype == tensor.dtype


def test_the_dtype_of_the_weights_stands_in_the_configuration(
    make_zoo: MakeZoo, tmp_path: Path, edit_json: Callable[..., None]
) -> None:
    zoo = make_zoo()
    edit_json(Path(zoo.base) / "config.json", torch_dtype="float32", dtype=None)
    half = Zoo(base=zoo.base, parents=zoo.parents, dtype="float16")
    write_checkpoint(tmp_path / "out", merged_tensors(Parents(half), HALF), Path(zoo.base))
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["dtype"] == "float16"
    assert "torch_dtype" not in config


def failing() -> Iterator[tuple[str, Tensor]]:
    yield "a", torch.ones(3)
    raise RuntimeError("lost a worker")


def test_nothing_is_left_of_a_checkpoint_that_failed(make_zoo: MakeZoo, tmp_path: Path) -> None:
    zoo = make_zoo()
    target = tmp_path / "out" / "best"
    with pytest.raises(RuntimeError):
        write_checkpoint(target, failing(), Path(zoo.base), shard_bytes=1)
    assert list(target.parent.iterdir()) == []


def test_a_failed_export_leaves_the_old_one_alone(make_zoo: MakeZoo, tmp_path: Path) -> None:
    zoo = make_zoo()
    target = tmp_path / "out" / "best"
    first = write_checkpoint(target, merged_tensors(Parents(zoo), HALF), Path(zoo.base))
    with pytest.raises(RuntimeError):
        write_checkpoint(target, failing(), Path(zoo.base))
    assert (
        hashlib.sha256((target / "model.safetensors").read_bytes()).hexdigest()
        == (first["model.safetensors"][0])
    )
    again = write_checkpoint(target, merged_tensors(Parents(zoo), HALF), Path(zoo.base))
    assert again == first
    assert [path.name for path in target.parent.iterdir()] == ["best"]


def test_what_a_killed_writer_left_is_swept_and_what_another_writes_is_not(
    make_zoo: MakeZoo, tmp_path: Path
) -> None:
    zoo = make_zoo()
    for name, age_s in (
        (".best.1.partial", 10**6),
        (".best.2.partial", 60),
        (".best-2.old", 10**6),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "shard-0").touch()
        for path in (tmp_path / name / "shard-0", tmp_path / name):
            os.utime(path, (time.time() - age_s,) * 2)
    write_checkpoint(tmp_path / "best", merged_tensors(Parents(zoo), HALF), Path(zoo.base))
    left = {path.name for path in tmp_path.glob(".best*")}
    assert left == {".best.2.partial", ".best-2.old"}


def test_a_folder_that_does_not_pass_never_gets_its_name(make_zoo: MakeZoo, tmp_path: Path) -> None:
    zoo = make_zoo()
    target = tmp_path / "out" / "best"

    def refuse(folder: Path) -> None:
        assert (folder / "SHA256SUMS").exists()
        raise RuntimeError

    tensors = merged_tensors(Parents(zoo), HALF)
    with pytest.raises(RuntimeError):
        write_checkpoint(target, tensors, Path(zoo.base), check=refuse)
    assert list(target.parent.iterdir()) == []


def test_a_disk_that_is_too_small_is_told_before_anything_is_written(
    make_zoo: MakeZoo, tmp_path: Path
) -> None:
    zoo = make_zoo()

    def never() -> Iterator[tuple[str, Tensor]]:
        raise AssertionError("read a tensor")
        yield

    with pytest.raises(OSError, match=r"needs \d+ bytes, and \d+ are free") as caught:
        write_checkpoint(tmp_path / "out", never(), Path(zoo.base), size_bytes=10**18)
    assert caught.value.errno == errno.ENOSPC
    assert not (tmp_path / "out").exists()
