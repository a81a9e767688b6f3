"""Merging into a folder takes the memory of a shard, however large the models are."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from tests.tiny import make_model

if not sys.platform.startswith("linux"):
    pytest.skip("memory is read from /proc", allow_module_level=True)

MIB = 2**20
WIDTH, LAYER = 512, 3 * 512 * 512 * 4  # bytes of a layer: 3 MiB
PARENTS = ("one", "two")

# What is private to a process at most; mapped files are not counted, for they give way.
MERGE = """
import json, re, sys, threading
from pathlib import Path
from search.recipe import Recipe
from workers.merge_folder import merge_into_folder
from workers.messages import Zoo

def private():
    return 1024 * int(re.search(r"RssAnon:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

def watch():
    global most
    while not over.wait(0.002):
        most = max(most, private())

root, shard_bytes = Path(sys.argv[1]), int(sys.argv[2])
zoo = Zoo(str(root / "base"), tuple((n, str(root / n)) for n in ("one", "two")), "float32")
recipe = Recipe(method="linear", parents=("one", "two"))
merge_into_folder(recipe, zoo, root / "first")  # whatever is imported or compiled once
most, over = private(), threading.Event()
before = most
watcher = threading.Thread(target=watch)
watcher.start()
merge_into_folder(recipe, zoo, root / "out", shard_bytes=shard_bytes)
over.set()
watcher.join()
print(json.dumps(most - before))
"""


def write_models(root: Path, layers: int) -> Path:
    """A base and two parents of some MiB for each layer, with an embedding of a few KiB."""
    draw = np.random.default_rng(0)
    for name in ("base", *PARENTS):
        make_model(root / name, hidden_size=8)
        weights: dict[str, Any] = {
            f"model.layers.{layer}.mlp.{part}_proj.weight": draw.normal(size=(WIDTH, WIDTH))
            for layer in range(layers)
            for part in ("gate", "up", "down")
        }
        weights["model.embed_tokens.weight"] = draw.normal(size=(32, 8))
        weights["lm_head.weight"] = draw.normal(size=(32, 8))
        save_file(
            {key: value.astype(np.float32) for key, value in weights.items()},
            root / name / "model.safetensors",
            metadata={"format": "pt"},
        )
    return root


def most_private(root: Path, *, shard_bytes: int) -> int:
    """Bytes that a process needs beyond what it had before it began to merge."""
    done = subprocess.run(
        [sys.executable, "-c", MERGE, str(root), str(shard_bytes)],
        capture_output=True,
        text=True,
        check=True,
        # What is freed goes back at once: else what the C library hoards would be measured.
        env=os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536", "OMP_NUM_THREADS": "1"},
    )
    return int(json.loads(done.stdout.splitlines()[-1]))


def test_memory_does_not_grow_with_the_models(tmp_path: Path) -> None:
    few, many = (write_models(tmp_path / str(layers), layers) for layers in (4, 16))
    small = most_private(few, shard_bytes=2 * LAYER)
    large = most_private(many, shard_bytes=2 * LAYER)
    assert large < small + LAYER, (small / MIB, large / MIB)
    assert large < 6 * LAYER, "a shard, and one tensor with what is made of it on the way"
    whole = most_private(many, shard_bytes=2**30)
    assert whole > 14 * LAYER, "control: in one shard the whole model is held"
