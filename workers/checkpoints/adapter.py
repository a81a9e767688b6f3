"""LoRA adapters: what PEFT's two files change in a base, told from config and header alone."""

from __future__ import annotations

import math
import re
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any, cast

import torch

from search.layout import Tensor
from workers.checkpoints.headers import BITS, FLOATS

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"

_PREFIX = "base_model.model."
_FACTOR = re.compile(
    r"^(?P<module>.+)\.lora_(?P<kind>embedding_)?(?P<part>[AB])(?:\.default)?(?:\.weight)?$"
)
# Where PEFT puts the original of a module that it wraps, or a copy of it that was trained in full.
_WRAPPING = re.compile(r"\.(base_layer|modules_to_save(\.default)?)(?=\.)")

# Ways to initialize that leave the base as it was; others move a part of it into the adapter.
_HARMLESS_STARTS = (None, True, False, "gaussian", "eva", "orthogonal")
# Fields that make an adapter more than a low-rank sum where they are set, and what they do.
_MORE_THAN_A_SUM = {
    "use_dora": "DoRA scales whole rows of the weight",
    "lora_bias": "it trains biases of its own",
    "layer_replication": "it gives the model more layers than the base has",
    "target_parameters": "it adapts parameters that are no modules",
    "trainable_token_indices": "it trains single rows of the embedding",
    "alora_invocation_tokens": "it acts only behind certain tokens",
    "use_qalora": "it is made for quantized weights",
    "use_bdlora": "its factors are block diagonal",
    "arrow_config": "it routes between several adapters",
    "kasa_config": "it changes singular values of the weight",
}

# What a pattern may consist of; an adapter's author must not choose how long matching takes.
_PLAIN = re.compile(r"[\w.-]{1,300}")
_SIMPLE = re.compile(r"[\w.\-^$\\|()\[\]*+?]{1,300}")
_QUANTIFIERS = 3
_MOST = 2**31  # of ranks and alphas
_TOLD = 5  # problems of one adapter: one for each tensor would be no help


class Misfit(ValueError):
    """A part of an adapter that cannot be used; the message is for the user to read."""


@dataclass(frozen=True, slots=True)
class Update:
    """A low-rank change of one tensor: ``scaling * (up @ down)``.

    Args:
        down: name of the stored (rank, in) factor, which PEFT calls A.
        up: name of the stored (out, rank) factor, which PEFT calls B.
        rank: of the product, at most.
        scaling: of the product.
        transposed: the tensor is (in, out): an embedding, or GPT-2's Conv1D.
        is_embedding: the factors are those of an embedding, which PEFT stores under other names.
    """

    down: str
    up: str
    rank: int
    scaling: float
    transposed: bool = False
    is_embedding: bool = False

    def applied(self, before: torch.Tensor, down: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
        """The changed tensor in float32, newly allocated; costs 2 * rank operations an element."""
        after = before.to(torch.float32, copy=True)
        left, right = up.float() * self.scaling, down.float()
        return after.addmm_(right.T, left.T) if self.transposed else after.addmm_(left, right)


@dataclass(frozen=True, slots=True)
class Adapter:
    """What an adapter changes, by the base's names of tensors.

    Args:
        config: parsed adapter_config.json.
        stored: tensors of the adapter's file by name.
        updates: low-rank changes.
        whole: tensors that were trained in full (``modules_to_save``), with their stored names.
    """

    config: Mapping[str, Any] = field(default_factory=dict)
    stored: Mapping[str, Tensor] = field(default_factory=dict)
    updates: Mapping[str, Update] = field(default_factory=dict)
    whole: Mapping[str, str] = field(default_factory=dict)

    @property
    def size_bytes(self) -> int:
        """Bytes of the tensors of its file."""
        return sum(tensor.size * BITS[tensor.dtype] // 8 for tensor in self.stored.values())

    @property
    def base_name(self) -> str:
        """What its author called the base; empty where that is not told."""
        return str(self.config.get("base_model_name_or_path") or "")


def read_adapter(
    config: Mapping[str, Any],
    stored: Mapping[str, Tensor],
    base: Mapping[str, Tensor],
    aliases: Mapping[str, str],
) -> tuple[Adapter, list[str]]:
    """Find the tensor of the base that each stored tensor changes, and how.

    Args:
        config: parsed adapter_config.json.
        stored: tensors of the adapter's file.
        base: tensors of the base.
        aliases: names of the base's tied tensors, with those that hold their weights.

    Returns:
        The adapter as far as it can be used, and why the rest cannot be.
    """
    problems = list(unsupported(config))
    if problems:
        return Adapter(config, stored), problems  # what its tensors mean is unknown
    names = _Names(base, aliases)
    factors: dict[str, dict[str, str]] = {}
    whole: dict[str, str] = {}
    for key, tensor in stored.items():
        match = _FACTOR.match(key)
        try:
            if tensor.dtype not in FLOATS:
                raise Misfit(f"holds '{key}' in {tensor.dtype}; save it in float32 or bfloat16")
            if match is None:
                whole[names.of(_WRAPPING.sub("", key))] = key
            else:
                module = _WRAPPING.sub("", match["module"] + ".")
                part = f"{match['kind'] or ''}{match['part']}"
                factors.setdefault(names.of(module + "weight"), {})[part] = key
        except Misfit as misfit:
            problems.append(f"{WEIGHTS} {misfit}")
    updates: dict[str, Update] = {}
    for name, parts in factors.items():
        if name in aliases:
            continue
        target = stored[whole[name]] if name in whole else base[name]
        try:
            updates[name] = _update(config, name, parts, stored, target)
        except Misfit as misfit:
            problems.append(str(misfit))
    problems += _untied(config, factors.keys(), whole, aliases)
    if not stored:
        problems.append(f"{WEIGHTS} holds no tensors")
    problems = list(dict.fromkeys(problems))  # both factors of a module have the same
    if len(problems) > _TOLD:
        problems[_TOLD:] = [f"{WEIGHTS} has {len(problems) - _TOLD} more problems like these"]
    whole = {name: key for name, key in whole.items() if name not in aliases}
    return Adapter(config, stored, updates, whole), problems


def module_of(key: str) -> str:
    """What PEFT calls the module (or the tensor stored in full) that a stored tensor is for."""
    match = _FACTOR.match(key)
    name = key if match is None else match["module"]
    return _WRAPPING.sub("", name + ".").removesuffix(".").removeprefix(_PREFIX)


def other_base(adapter: Adapter, names: set[str]) -> str | None:
    """A caution where an adapter says that it was trained on another model.

    Args:
        adapter: that says so.
        names: by which the base is known.
    """
    said = adapter.base_name
    known = {PurePath(name).name.lower() for name in names if name}
    if not said or not known or PurePath(said).name.lower() in known:
        return None
    return (
        f"{CONFIG} has base_model_name_or_path {_short(said)}, and the base is called "
        f"{', '.join(sorted(known))}; on another base than its own an adapter means nothing"
    )


class _Names:
    """Finds the base's tensor for a name of PEFT's, which begins at the wrapped model.

    Files of some bases leave out the prefix of the body (``transformer.``); an adapter of a bare
    body lacks it, too.
    """

    def __init__(self, base: Mapping[str, Tensor], aliases: Mapping[str, str]) -> None:
        self._names = base.keys() | aliases.keys()
        self._bodies = {name.partition(".")[2]: name for name in sorted(self._names)}

    def of(self, key: str) -> str:
        name = key.removeprefix(_PREFIX)
        for spelling in (name, name.partition(".")[2], self._bodies.get(name)):
            if spelling in self._names:
                return str(spelling)
        raise Misfit(f"changes '{name}', which the base does not have")


def unsupported(config: Mapping[str, Any]) -> Iterator[str]:
    """Why an adapter of this configuration cannot be merged, whatever its base is."""
    kind = config.get("peft_type")
    if kind != "LORA":
        yield f"{CONFIG} has peft_type {_short(kind)}; of adapters only LORA can be merged"
        return
    if (bias := config.get("bias")) not in (None, "none"):
        yield f"{CONFIG} has bias {_short(bias)}: it trained biases, which only 'none' leaves"
    start = config.get("init_lora_weights")
    if start not in _HARMLESS_STARTS:
        yield (
            f"{CONFIG} has init_lora_weights {_short(start)}: it belongs to a base that was "
            "changed at the start; save it with path_initial_model_for_weight_conversion"
        )
    for name, what in _MORE_THAN_A_SUM.items():
        if config.get(name):
            yield (
                f"{CONFIG} has {name}: {what}, which is no low-rank sum; merge it into its base "
                "first (peft: merge_and_unload)"
            )
    for name in ("rank_pattern", "alpha_pattern"):
        patterns = config.get(name) or {}
        if not isinstance(patterns, dict) or not all(map(_is_positive, patterns.values())):
            yield f"{CONFIG} has no mapping to positive numbers in {name}"
            continue
        for pattern in patterns:
            if not _is_simple(pattern):
                yield f"{CONFIG} has the pattern '{pattern[:60]}' in {name}, which is too intricate"
    for name in ("r", "lora_alpha"):
        if not _is_positive(config.get(name)):
            yield f"{CONFIG} has {name} {_short(config.get(name))}; expected a positive number"


def _short(value: object) -> str:
    return repr(value)[:80]


def _is_positive(value: object) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and 0 < cast(float, value) < _MOST


def _is_simple(pattern: str) -> bool:
    """Whether matching takes a time that is at most cubic in the length of a name."""
    if not _SIMPLE.fullmatch(pattern) or re.search(r"\)[*+?]", pattern):
        return False
    try:
        re.compile(pattern)
    except re.error:
        return False
    return len(re.findall(r"[*+?]", pattern)) <= _QUANTIFIERS


def _pattern_value(config: Mapping[str, Any], field: str, module: str, default: float) -> float:
    """The first pattern that fits the end of a module's name wins, as in PEFT."""
    for pattern, value in (config.get(field) or {}).items():
        if _PLAIN.fullmatch(pattern):
            found = module == pattern or module.endswith("." + pattern)
        else:
            found = re.match(rf"(.*\.)?({pattern})$", module) is not None
        if found:
            return float(value)
    return default


def _update(
    config: Mapping[str, Any],
    name: str,
    parts: Mapping[str, str],
    stored: Mapping[str, Tensor],
    target: Tensor,
) -> Update:
    """The change of one tensor, with shapes that fit.

    Raises:
        Misfit: they do not, or a factor is missing.
    """
    is_embedding = parts.keys() == {"embedding_A", "embedding_B"}
    if not is_embedding and parts.keys() != {"A", "B"}:
        raise Misfit(f"{WEIGHTS} lacks one of the factors A and B for '{name}'")
    down, up = (stored[parts[part]] for part in sorted(parts))
    if len(down.shape) != 2 or len(up.shape) != 2 or len(target.shape) != 2:
        raise Misfit(f"{WEIGHTS} changes '{name}', which is no matrix; only matrices are supported")
    module = module_of(down.name)
    rank = down.shape[0]
    wanted = int(_pattern_value(config, "rank_pattern", module, config["r"]))
    if wanted != rank or up.shape[1] != rank:
        raise Misfit(
            f"{CONFIG} gives '{name}' rank {wanted} (r, rank_pattern), its factors in {WEIGHTS} "
            f"have {rank} and {up.shape[1]}"
        )
    transposed = is_embedding or bool(config.get("fan_in_fan_out"))
    product = (down.shape[1], up.shape[0]) if transposed else (up.shape[0], down.shape[1])
    if product != target.shape:
        hint = "; is fan_in_fan_out right?" if product[::-1] == target.shape else ""
        raise Misfit(
            f"{WEIGHTS} changes '{name}' by a matrix of {product[0]}x{product[1]}, and it has "
            f"{target.shape[0]}x{target.shape[1]}{hint}"
        )
    alpha = _pattern_value(config, "alpha_pattern", module, config["lora_alpha"])
    scaling = alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
    return Update(down.name, up.name, rank, scaling, transposed, is_embedding)


def _untied(
    config: Mapping[str, Any],
    adapted: Container[str],
    whole: Mapping[str, str],
    aliases: Mapping[str, str],
) -> Iterator[str]:
    """Changes of one of two tensors that the base ties: what the other becomes is not told.

    PEFT saves a resized embedding and its head both, untrained; then the head is a copy.
    """
    if config.get("ensure_weight_tying"):
        return
    listed = config.get("modules_to_save")
    trained = tuple(map(str, listed)) if isinstance(listed, list) else ()
    for head, table in aliases.items():
        for name, partner in ((head, table), (table, head)):
            module = name.rpartition(".")[0]
            alone = name in whole and partner not in whole
            if name in adapted or alone or (name in whole and module.endswith(trained)):
                yield (
                    f"{WEIGHTS} changes '{name}', which the base ties to '{partner}'; untie the "
                    "base first (tie_word_embeddings), or adapt other modules"
                )
