"""Models with other layers than the base as checkpoints: told without weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoConfig, AutoModelForCausalLM

from search.recipe import Step
from search.stack import NoStack
from workers.checkpoints.parents import Parents
from workers.merging.merge_method import NotMergeable
from workers.paths.layers import Layers
from workers.paths.laying import laid_path
from workers.planning.preflight import checkpoint_bytes

# What transformers raises of configurations that it cannot make a model of.
_FAULTS = (
    OSError,
    RuntimeError,
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    NotImplementedError,
    StrictDataclassError,
)


@dataclass(frozen=True, slots=True)
class Saved:
    """What a checkpoint is besides its tensors.

    Args:
        config: what its config.json says otherwise than that of the base.
        size_bytes: of all tensors.
    """

    config: Mapping[str, Any]
    size_bytes: int


def saved(parents: Parents, path: Sequence[Step]) -> Saved:
    """The checkpoint of a path; without steps, one with the base's layers.

    Raises:
        NotMergeable: the path does not fit the models, or their architecture.
    """
    size_bytes = checkpoint_bytes(parents.base, parents.zoo.dtype)
    if not path:
        return Saved({}, size_bytes)
    way = laid_path(parents, path)
    more = len(way.places) - way.stack.depth
    size_bytes += more * sum(way.stack.parts.values()) * parents.dtype.itemsize
    try:
        return Saved(configured(parents.base.path, way.stack.name, way.layers), size_bytes)
    except NoStack as error:
        raise NotMergeable(str(error)) from None


def configured(folder: Path, stack: str, layers: Sequence[int]) -> dict[str, Any]:
    """What config.json of a model says otherwise whose layers are those of a checkpoint.

    Args:
        folder: of the checkpoint; only its configuration is read.
        stack: its list of layers, as its files call it.
        layers: the number there of each layer of the model, in order.

    Raises:
        NoStack: the architecture does not allow it.
    """
    build: Any = AutoModelForCausalLM.from_config
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        with torch.device("meta"):
            model = build(config, trust_remote_code=False)
        own = Layers(model, stack)
        own.built(layers)
        return own.told(layers)
    except NoStack:
        raise
    except _FAULTS as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise NoStack(f"transformers cannot build it with {len(layers)} layers: {reason}") from None
