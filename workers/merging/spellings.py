"""How the published programs of some methods call them and their parameters.

Whoever comes from one of these programs can write what they wrote there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Given = Mapping[str, Any]
Ours = tuple[str, dict[str, Any]]
Translate = Callable[[dict[str, Any]], Ours]

# What published settings only say about the program: it is so here, too.
_REMARKS = frozenset({"num_blocks", "optimizer", "linear_keys", "exclude", "shared", "window_size"})
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
        name.removeprefix("per_model."): _WORDS.get(value, value)
        if isinstance(value, str)
        else value
        for name, value in parameters.items()
        if name not in _REMARKS
    }
    translate = _SPELLINGS.get(method)
    return (method, given) if translate is None else translate(given)


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


_SPELLINGS: dict[str, Translate] = {
    "breadcrumbs_original": _renamed(
        "breadcrumbs",
        {"top_k_keep": "density", "top_k_remove": "gamma", "scaling": "lambda"},
        scope="row",
        remove_first=True,
    ),
    "dare": _renamed("dare_linear", {}),
    "pcb": _renamed("pcb", {"lambdas": "lambda"}),
    "ramplus_tl": _renamed("ramplus", {}, scope="tensor"),
    "sce_official": _renamed("sce", {}, compat="paper"),
    "ties_whole_vector": _whole_ties,
    "twin_merging": _renamed("twin", {}),
}
