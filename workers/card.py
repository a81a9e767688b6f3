"""The model card of a merge: what it is made of, how well it does, how to use it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from search.outcome import Scores
from search.recipe import Recipe
from workers.messages import Zoo

_CARD_BYTES = 1 << 20


def model_card(
    recipe: Recipe,
    zoo: Zoo,
    *,
    scores: Scores,
    higher_is_better: Mapping[str, bool],
    models: Mapping[str, str],
    details: Mapping[str, object],
    mergekit: str | None,
) -> str:
    """README.md with the metadata that the Hugging Face Hub reads.

    Args:
        recipe: what was merged.
        zoo: whose folders may hold cards that name a licence.
        scores: on the report split, higher is better.
        higher_is_better: by objective; turns the scores back into the metric's own sign.
        models: what each model is called in public.
        details: further lines.
        mergekit: the recipe in mergekit's YAML, where it has one.
    """
    used = ["base", *(name for name in recipe.parents if name != "base")]
    licences = {models[name]: licence(folder) for name, folder in _folders(zoo) if name in used}
    metadata: dict[str, Any] = {
        "base_model": [models[name] for name in used],
        "base_model_relation": "merge",
        "library_name": "transformers",
        "tags": ["merge", "nichemerge", *(["mergekit"] if mergekit else [])],
    }
    if len(set(licences.values())) == 1 and None not in licences.values():
        metadata["license"] = next(iter(licences.values()))
    sections = [
        f"---\n{yaml.safe_dump(metadata, sort_keys=False)}---",
        f"# Merge of {', '.join(models[name] for name in used[1:]) or models['base']}",
        f"Merged with `{recipe.method}` by nichemerge; recipe `{recipe.digest[:16]}`, in full in"
        " `recipe.json`.",
        _table(("model", "licence"), [(m, text or "not stated") for m, text in licences.items()]),
        "## Scores\n\nOn examples that took no part in the search.",
        _table(
            ("task", "metric", "score", "standard error", "examples"),
            _rows(scores, higher_is_better),
        ),
        *([f"## mergekit\n\n```yaml\n{mergekit.rstrip()}\n```"] if mergekit else []),
        *(["## Details", _list(details)] if details else []),
        "## Use\n\n```python\nfrom transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
        'model = AutoModelForCausalLM.from_pretrained(".")\n'
        'tokenizer = AutoTokenizer.from_pretrained(".")\n```',
    ]
    return "\n\n".join(sections) + "\n"


def public_names(zoo: Zoo, given: object) -> dict[str, str]:
    """What models are called in public: as given, else by name, and the base by its folder.

    A path says more about the machine than about the model, so none is ever shown.
    """
    known = given if isinstance(given, Mapping) else {}
    plain = {"base": Path(zoo.base).name, **{name: name for name, _ in zoo.parents}}
    return {name: str(known.get(name, label)) for name, label in plain.items()}


def licence(folder: str) -> str | None:
    """What the model card in a folder states, or None."""
    card = Path(folder) / "README.md"
    if not card.is_file() or card.stat().st_size > _CARD_BYTES:
        return None
    parts = card.read_text(encoding="utf-8", errors="replace").split("---\n", 2)
    if len(parts) < 3 or parts[0].strip():
        return None
    try:
        metadata = yaml.safe_load(parts[1])
    except (yaml.YAMLError, RecursionError):
        return None
    stated = metadata.get("license") if isinstance(metadata, dict) else None
    return stated if isinstance(stated, str) else None


def _folders(zoo: Zoo) -> tuple[tuple[str, str], ...]:
    return (("base", zoo.base), *zoo.parents)


def _rows(scores: Scores, higher_is_better: Mapping[str, bool]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for key, score in scores.items():
        task, _, metric = key.partition("/")
        higher = higher_is_better[key]
        value = score.value if higher else -score.value
        label = metric if higher else f"{metric} (lower is better)"
        stderr = f"{score.stderr:.4f}" if math.isfinite(score.stderr) else "n/a"
        rows.append((task, label, f"{value:.4f}", stderr, str(score.count)))
    return rows


def _table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [header, ("---",) * len(header), *rows]
    return "\n".join("| " + " | ".join(_cell(text) for text in line) + " |" for line in lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _list(details: Mapping[str, object]) -> str:
    return "\n".join(f"- {name}: {_cell(str(value))}" for name, value in details.items())
