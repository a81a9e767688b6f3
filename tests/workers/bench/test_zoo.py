"""The models that merging is measured on."""

from __future__ import annotations

from pathlib import Path

import torch

from workers.bench.zoo import SIZES, Size, write_zoo
from workers.checkpoints.parents import Parents
from workers.resident import empty_model

TINY = Size(2, 128, 192, 1, vocabulary=256)


# 2 x 1024 x 256 + 10 x (4 x 256^2 + 3 x 256 x 768 + 2 x 256) + 256
# 32000 x 768 + 12 x (4 x 768^2 + 3 x 768 x 3072 + 2 x 768) + 768
# 2 x 32000 x 2048 + 22 x (2 x 2048^2 + 2 x 2048 x 256 + 3 x 2048 x 5632 + 2 x 2048) + 2048
def test_sizes_are_what_they_are_called(tmp_path: Path) -> None:
    counts = {}
    for name, size in SIZES.items():
        size.config.save_pretrained(tmp_path / name)
        with torch.device("meta"):
            model = empty_model(tmp_path / name, "bfloat16", "meta")
        counts[name] = sum(weight.numel() for weight in model.parameters())
    assert counts == {"9M": 9_049_344, "138M": 137_841_408, "1.1B": 1_100_048_384}


def test_parents_are_the_base_and_a_little_noise(tmp_path: Path) -> None:
    parents = Parents(write_zoo(tmp_path, TINY, dtype="float32", parents=2))
    name = "model.layers.1.mlp.up_proj.weight"
    base, one, two = (parents.tensor(model, name) for model in ("base", "p1", "p2"))
    assert abs(float(base.std()) - 0.02) < 0.001
    assert abs(float((one - base).std()) - 0.002) < 0.0001
    assert abs(float((two - base).std()) - 0.002) < 0.0001
    assert not torch.equal(one, two)


def test_weights_are_the_same_every_time(tmp_path: Path) -> None:
    zoos = [write_zoo(tmp_path / name, TINY, dtype="bfloat16", parents=1) for name in "ab"]
    first, second = (Path(zoo.base, "model.safetensors").read_bytes() for zoo in zoos)
    assert first == second
    assert Parents(zoos[0]).base.dtype == "bfloat16"
