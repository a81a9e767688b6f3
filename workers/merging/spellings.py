"""How the published programs of some methods call them and their parameters.

Whoever comes from one of these programs can write what they wrote there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

Given = Mapping[str, Any]
Ours = tuple[str, dict[str, Any]]
Translate = Callable[[dict[str, Any]], Ours]

# What published settings only say about the program: it is so here, too.
_REMARKS = frozenset({"num_blocks", "optimizer", "linear_keys", "exclude", "int8_mask"})
_WORDS = {
    "mean of angles (degrees)": "angles",
    "1/keep_prob per entry": "1/probability",
}


def in_our_words(method: str, parameters: Given) -> Ours:
    """A method and its parameters as this project spells them; our own spelling stays as it is.

    Args:
        method: name of a method, ours or one of the names below.
        parameters: with ``per_model.`` before a name or without.
    """
    given = {
        name.removeprefix("per_model."): _in_our_word(name, value)
        for name, value in parameters.items()
        if name not in _REMARKS
    }
    translate = _SPELLINGS.get(method)
    return (method, given) if translate is None else translate(given)


def _in_our_word(name: str, value: Any) -> Any:
    if name == "rescale" and isinstance(value, bool):  # mergekit's flag
        return "l1" if value else "none"
    return _WORDS.get(value, value) if isinstance(value, str) else value


def _renamed(
    method: str, names: Mapping[str, str], **fixed: Any
) -> Callable[[dict[str, Any]], Ours]:
    def translate(given: dict[str, Any]) -> Ours:
        return method, {**fixed, **{names.get(name, name): value for name, value in given.items()}}

    return translate


def _whole_ties(given: dict[str, Any]) -> Ours:
    """``ties_merging`` of TIES, of fusion_bench and of others: a percentage, and one scale."""
    given = dict(given)
    if "top_k_percent" in given:
        given["density"] = given.pop("top_k_percent") / 100
    return _renamed("ties", {"scaling": "lambda"}, scope="model")(given)


def _windowed(method: str) -> Translate:
    """The authors' window is as wide as the probabilities of a row: twice mergekit's epsilon."""

    def translate(given: dict[str, Any]) -> Ours:
        window = given.pop("window_size", None)
        return method, given if window is None else {"epsilon": window / 2, **given}

    return translate


def _tsv_merge(given: dict[str, Any]) -> Ours:
    """fusion_bench's alpha may be one number for each parent."""
    alpha = given.get("alpha")
    if isinstance(alpha, list | tuple):
        given = {**given, "alpha": 1.0, "weight": alpha}
    return "tsv_merge", given


def _twin(given: dict[str, Any]) -> Ours:
    """What the shared expert is, in words: its scale is all that can differ."""
    shared = given.pop("shared", None)
    words = re.fullmatch(r"task_arithmetic scaling ([0-9.]+)", str(shared))
    if shared is not None and words is None:
        given["shared"] = shared  # not what we do: refused as an unknown parameter
    return "twin", given if words is None else {"scaling": float(words[1]), **given}


_SPELLINGS: dict[str, Translate] = {
    "breadcrumbs_original": _renamed(
        "breadcrumbs",
        {"top_k_keep": "density", "top_k_remove": "gamma", "scaling": "lambda"},
        scope="row",
        remove_first=True,
    ),
    "dare": _renamed("dare_linear", {}),
    "della": _windowed("della"),
    "della_linear": _windowed("della_linear"),
    "pcb": _renamed("pcb", {"lambdas": "lambda"}),
    "ramplus_tl": _renamed("ramplus", {}, scope="tensor"),
    "sce_official": _renamed("sce", {}, compat="paper"),
    "ties_whole_vector": _whole_ties,
    "tsv_merge": _tsv_merge,
    "twin_merging": _twin,
}
