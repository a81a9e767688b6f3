"""The layers of a resident model, in any order and number, without copies of their weights."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

from search.stack import NoStack

# Tensor of a layer of the new model, by its place and its name within the layer.
Find = Callable[[int, str], Tensor]

# What tells a layer where it is, and not what it does; and what it is used for just now.
_NO_MATTER = frozenset({"layer_idx", "layer_id", "layer_number", "training"})
# What transformers calls the number of layers, whatever a model's files call it.
_DEPTH = "num_hidden_layers"
_PLAIN = (bool, int, float, str, type(None))


class Layers:
    """Gives a model other layers, and its own again.

    New layers are made by transformers, from the configuration that the model with these layers
    would be saved with: each knows its place (which the cache of keys and values goes by), and is
    what a stranger gets who loads that model. Their weights are tensors that exist already.

    Args:
        model: whose embeddings, final norm, head and buffers stay.
        stack: the name of its list of layers, as files have it.

    Raises:
        NoStack: the model has no such list.
    """

    def __init__(self, model: PreTrainedModel, stack: str) -> None:
        self._path, _, self._name = _spelled(model, stack).rpartition(".")
        self._holder = model.get_submodule(self._path)
        self._model = model
        self._config = copy.deepcopy(model.config)
        self._own: nn.ModuleList = getattr(self._holder, self._name)
        self._now, self._told = self._own, self.told(range(len(self._own)))

    def restore(self) -> None:
        """Give the model its own layers."""
        self._put(self._own, self.told(range(len(self._own))))

    @contextmanager
    def own(self) -> Iterator[None]:
        """Give the model its own layers for a while."""
        now, told = self._now, self._told
        self.restore()
        try:
            yield
        finally:
            self._put(now, told)

    def follow(self, layers: Sequence[int], tensor: Find) -> None:
        """Give the model new layers.

        Args:
            layers: the number among its own of the layer that each is like.
            tensor: what is in it.

        Raises:
            NoStack: a layer cannot stand at the place that it is given.
        """
        built = self.built(layers)
        for place, (layer, number) in enumerate(zip(built, layers, strict=True)):
            _fill(layer, self._own[number], partial(tensor, place))
        self._put(built, self.told(layers))

    def told(self, layers: Sequence[int]) -> dict[str, Any]:
        """What the configuration says with these layers that it does not say now."""
        return _changes(self._config, layers)

    def built(self, layers: Sequence[int]) -> nn.ModuleList:
        """Such layers without weights.

        Raises:
            NoStack: as ``follow``.
        """
        model = self._without_weights(self.told(layers))
        built: nn.ModuleList = getattr(model.get_submodule(self._path), self._name)
        for place, (layer, number) in enumerate(zip(built, layers, strict=True)):
            if (other := _difference(self._own[number], layer)) is not None:
                raise NoStack(
                    f"layer {number} cannot be layer {place}: its {other} follows from its place"
                )
        if (other := _unlike(self._outside(self._model), self._outside(model))) is not None:
            raise NoStack(f"'{other}' follows from the number of layers")
        return built

    def _outside(self, model: nn.Module) -> dict[str, tuple[int, ...]]:
        inside = f"{self._path}.{self._name}."
        named = model.named_parameters()
        return {name: tuple(p.shape) for name, p in named if not name.startswith(inside)}

    def _without_weights(self, new: dict[str, Any]) -> PreTrainedModel:
        config = copy.deepcopy(self._config)
        _tell(config, new)
        build: Any = AutoModelForCausalLM.from_config
        with torch.device("meta"):
            model = build(
                config,
                dtype=self._model.dtype,
                attn_implementation=getattr(self._config, "_attn_implementation", None),
                trust_remote_code=False,
            )
        made: PreTrainedModel = model.train(mode=False)
        return made

    def _put(self, layers: nn.ModuleList, told: dict[str, Any]) -> None:
        self._now, self._told = layers, told
        setattr(self._holder, self._name, layers)
        config = self._model.config
        for one in (config, getattr(self._holder, "config", config)):
            _tell(one, told)


def _changes(config: PreTrainedConfig, layers: Sequence[int]) -> dict[str, Any]:
    """What the configuration of a model says otherwise that has these layers of another.

    Their number, and every list with an entry for each layer (``layer_types``).

    Args:
        config: of the model that the layers are of, or of one that is built alike.
        layers: their numbers there, in the new order.
    """
    depth = getattr(config, _DEPTH)
    told = {
        name: [value[layer] for layer in layers]
        for name, value in config.to_dict().items()
        if "layer" in name and isinstance(value, list) and len(value) == depth
    }
    return {config.attribute_map.get(_DEPTH, _DEPTH): len(layers), **told}


def _spelled(model: PreTrainedModel, stack: str) -> str:
    """What a model calls the list that files call ``stack``: with or without the body's prefix."""
    prefix = f"{model.base_model_prefix}."
    for name in (stack, prefix + stack, stack.removeprefix(prefix)):
        holder, _, last = name.rpartition(".")
        try:
            found = getattr(model.get_submodule(holder), last)
        except AttributeError:
            continue
        if isinstance(found, nn.ModuleList) and len(found) == getattr(model.config, _DEPTH, 0):
            return name
    raise NoStack(f"{type(model).__name__} has no plain list of layers '{stack}'")


def _tell(config: PreTrainedConfig, told: dict[str, Any]) -> None:
    for name, value in told.items():
        setattr(config, name, value)


def _fill(layer: nn.Module, own: nn.Module, tensor: Callable[[str], Tensor]) -> None:
    """Give a layer weights, and the buffers of the one that it is like."""
    for name, parameter in list(own.named_parameters()):
        holder, leaf = _leaf(layer, name)
        value = tensor(name).to(parameter.dtype)
        holder._parameters[leaf] = nn.Parameter(value, requires_grad=False)
    for name, buffer in own.named_buffers():
        holder, leaf = _leaf(layer, name)
        holder._buffers[leaf] = buffer


def _leaf(layer: nn.Module, name: str) -> tuple[nn.Module, str]:
    holder, _, leaf = name.rpartition(".")
    return layer.get_submodule(holder), leaf


def _difference(one: nn.Module, other: nn.Module) -> str | None:
    """What two layers differ in besides their weights and their places; None when in nothing."""
    return _unlike(dict(_facts(one)), dict(_facts(other)))


def _unlike(ours: Mapping[str, object], theirs: Mapping[str, object]) -> str | None:
    """The first name that does not stand for the same."""
    names = sorted(ours.keys() | theirs.keys())
    return next((n for n in names if ours.get(n, ...) != theirs.get(n, ...)), None)


def _facts(layer: nn.Module) -> Iterator[tuple[str, object]]:
    for path, module in layer.named_modules():
        yield path or "kind", type(module).__qualname__
        for name, value in vars(module).items():
            if isinstance(value, _PLAIN) and not name.startswith("_") and name not in _NO_MATTER:
                yield f"{path}.{name}".removeprefix("."), value
        for name, tensor in (*module._parameters.items(), *module._buffers.items()):
            shape = None if tensor is None else tuple(tensor.shape)
            yield f"{path}.{name}".removeprefix("."), shape
