"""Our parameters in mergekit's words (of release 0.1.5), and back.

mergekit calls a parameter as its declaration does, with these exceptions:

- What a method's preset ``mergekit`` fixes, mergekit cannot be told: it always does so.
- ``rescale`` is a flag there: to keep the L1 norm, or not to rescale. Its preset is the default.
- ``task_vectors`` is no parameter there: such a method merges differences from the base model where
  one is named, and otherwise the weights themselves.
- It has no factor by depth (``LINES``), but a ``lambda`` for each layer says the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from search.method import LINES, MethodDeclaration, Parameter
from workers.merging.merge_method import MergeMethod, depth_factor, methods

# Parameters that change nothing about the weights, and why.
IGNORED: Mapping[str, str] = {"int8_mask": "how masks are stored there; it changes no weight"}
# mergekit has no default for these: a configuration names them or cannot be merged.
REQUIRED = frozenset({"weight", "t"})
# Methods in which one of the merged models is the base model, and comes first.
BASE_COMES_FIRST = frozenset({"slerp"})
# Methods that do not give the same weights here as there, and why.
_BY_CHANCE = "draws at random, and here from another generator: other entries are dropped"
_NO_BAND = (
    "where gamma is less than one entry of a tensor, releases of mergekit before 0.1.5 drop its "
    "whole task vector by mistake; here nothing is cut off above"
)
_ANY_OF_EQUALS = (
    "where entries of one size stand at the cut, as in bfloat16 they do, mergekit keeps any of "
    "them; here those that come first"
)
_RANDOM = ("dare_linear", "dare_ties", "della", "della_linear")
DIFFERS: Mapping[str, str] = {
    "ties": _ANY_OF_EQUALS,
    **dict.fromkeys(("breadcrumbs", "breadcrumbs_ties"), f"{_NO_BAND}; {_ANY_OF_EQUALS}"),
    **dict.fromkeys(_RANDOM, _BY_CHANCE),
    "arcee_fusion": "of over a million entries mergekit looks at a sample, here at all",
}

# Whether a method that can merge both merges task vectors or weights.
TASK_VECTORS = "task_vectors"

_PRESET = "mergekit"
_RESCALE = "rescale"


def method_called(name: str) -> MergeMethod | None:
    """Our method that does what mergekit's method of this name does."""
    return next((m for m in methods if m.declaration.mergekit == name), None)


def known_to_mergekit() -> dict[str, str]:
    """Every method that mergekit has as well: its name there -> ours."""
    return {m.declaration.mergekit: m.name for m in methods if m.declaration.mergekit is not None}


def spoken(declaration: MethodDeclaration) -> tuple[Parameter, ...]:
    """The parameters of a method that a mergekit configuration can set."""
    fixed = fixed_there(declaration)
    return tuple(
        p
        for p in declaration.parameters
        if p.name == _RESCALE
        or not (p in LINES or p.name in fixed or p.name == TASK_VECTORS or p.kind == "choice")
    )


def fixed_there(declaration: MethodDeclaration) -> dict[str, Any]:
    """Parameter -> its value, for what mergekit always does in one way."""
    preset = declaration.presets.get(_PRESET, {})
    return {name: value for name, value in preset.items() if name != _RESCALE}


def merges_differences(declaration: MethodDeclaration, *, base_is_named: bool) -> bool:
    """Whether a base model is what task vectors start from, and not one of the merged models."""
    if TASK_VECTORS not in {parameter.name for parameter in declaration.parameters}:
        return declaration.uses_base
    return bool(fixed_there(declaration).get(TASK_VECTORS, base_is_named))


def default_there(declaration: MethodDeclaration, parameter: Parameter) -> Any:
    """What mergekit takes, in our words, where a configuration does not set a parameter."""
    usual = 1.0 if parameter.name == "density" else parameter.default
    return declaration.presets.get(_PRESET, {}).get(parameter.name, usual)


def is_flag(parameter: Parameter) -> bool:
    """Whether mergekit takes true or false for it."""
    return parameter.kind == "flag" or parameter.name == _RESCALE


def from_mergekit(parameter: Parameter, value: bool | float) -> Any:
    """A value of a configuration in our words: flags may be numbers there, and whole numbers too.

    Returns:
        The value itself where it is of the wrong kind.
    """
    if is_flag(parameter) and value in (0, 1):
        if parameter.name == _RESCALE:
            return "l1" if value else "none"
        return bool(value)
    if parameter.kind == "integer" and not isinstance(value, bool) and value == int(value):
        return int(value)
    return value


def to_mergekit(
    declaration: MethodDeclaration,
    arguments: Mapping[str, Any],
    size: int,
    depth: tuple[int, int] | None,
) -> dict[str, Any] | None:
    """Arguments of a method in mergekit's words, or None where it has none.

    Args:
        declaration: of the method.
        arguments: a value for every declared parameter.
        size: number of elements of the tensor.
        depth: its layer and the number of layers, as `Layout.depth` tells.
    """
    random = declaration.mergekit in _RANDOM
    if any(_fails_there(mask, size, random=random) for mask in _masks(arguments)):
        return None
    words = _rescaled(_scaled_by_depth(dict(arguments), depth))
    if words is None or any(not _all_equal(words[n], v) for n, v in _always(declaration).items()):
        return None
    return {p.name: words[p.name] for p in spoken(declaration)}


def _always(declaration: MethodDeclaration) -> dict[str, Any]:
    """What a merge must not do in another way, so that mergekit can do it."""
    fixed = fixed_there(declaration)
    choices = (p for p in declaration.parameters if p.kind == "choice" and p.name != _RESCALE)
    return {choice.name: choice.default for choice in choices} | fixed


def _masks(arguments: Mapping[str, Any]) -> Iterator[dict[str, float]]:
    """For each parent, what says which entries of its task vector survive."""
    names = [name for name in ("density", "gamma", "epsilon") if name in arguments]
    if "density" in names:
        for values in zip(*(arguments[name] for name in names), strict=True):
            yield dict(zip(names, values, strict=True))


def _fails_there(mask: Mapping[str, float], size: int, *, random: bool) -> bool:
    """Whether mergekit stops at a tensor, or keeps nothing of it where here one entry is kept."""
    density = mask["density"]
    if density >= 1.0:
        return False
    if random:
        half = mask.get("epsilon", 0.0)
        return not half < density < 1.0 - half
    return "gamma" in mask and int(density * size) == 0


def _all_equal(argument: Any, value: Any) -> bool:
    return all(a == value for a in argument) if isinstance(argument, tuple) else argument == value


def _scaled_by_depth(
    arguments: dict[str, Any], depth: tuple[int, int] | None
) -> dict[str, Any] | None:
    factor = depth_factor(depth, arguments)
    if factor == 1.0:
        return arguments
    if "lambda" not in arguments:
        return None
    return arguments | {"lambda": arguments["lambda"] * factor}


def _rescaled(arguments: dict[str, Any] | None) -> dict[str, Any] | None:
    """``rescale`` as a flag.

    A sum that is scaled by 1/density is the same sum with weights that are larger by as much. Where
    weights are divided by their sum again, all densities must be the same, and scale ``lambda``.
    """
    if arguments is None:
        return None
    match arguments.get(_RESCALE):
        case None:
            return arguments
        case "none" | "l1" as choice:
            return arguments | {_RESCALE: choice == "l1"}
        case "1/density" if not arguments["normalize"]:
            pairs = zip(arguments["weight"], arguments["density"], strict=True)
            return arguments | {_RESCALE: False, "weight": tuple(w / d for w, d in pairs)}
        case "1/density" if len(set(arguments["density"])) == 1:
            scale = arguments["lambda"] / arguments["density"][0]
            return arguments | {_RESCALE: False, "lambda": scale}
    return None
