"""The model card of a merge: what it is made of, how well it does, how to use it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from search.intervals import interval
from search.outcome import Scores
from search.paired import difference
from search.recipe import Recipe
from workers.checkpoints.folder import hub_name
from workers.checkpoints.licence import licence
from workers.messages import Zoo


def model_card(
    recipe: Recipe,
    zoo: Zoo,
    *,
    models: Mapping[str, str],
    scores: Scores | None,
    baselines: Sequence[tuple[str, Scores]] = (),
    higher_is_better: Mapping[str, bool],
    sha256: Mapping[str, str],
    details: Mapping[str, object],
    mergekit: str | None,
    is_adapter: bool = False,
) -> str:
    """README.md with the metadata that the Hugging Face Hub reads.

    Args:
        recipe: what was merged.
        zoo: whose folders may hold cards that name a licence.
        models: what each model is called in public: ``org/name`` or ``org/name@commit`` where it
            has a place on the Hub.
        scores: on the report split, higher is better; None where nothing was scored.
        baselines: names of other models with their scores on the same examples.
        higher_is_better: by objective; turns the scores back into the metric's own sign.
        sha256: of the weight files that were merged, by ``model/file``.
        details: further lines.
        mergekit: the recipe in mergekit's YAML, where it has one.
        is_adapter: whether this is an adapter and no checkpoint.
    """
    used = ["base", *(name for name in recipe.models if name != "base")]
    licences = {
        models[name]: licence(Path(folder)) for name, folder in _folders(zoo) if name in used
    }
    metadata: dict[str, Any] = {
        "base_model": [models[name].partition("@")[0] for name in used],
        "base_model_relation": "merge",
        "library_name": "peft" if is_adapter else "transformers",
        "tags": ["merge", "nichemerge", *(["mergekit"] if mergekit else [])],
    }
    if len(set(licences.values())) == 1 and None not in licences.values():
        metadata["license"] = next(iter(licences.values()))
    sections = [
        f"---\n{yaml.safe_dump(metadata, sort_keys=False)}---",
        f"# Merge of {', '.join(models[name] for name in used[1:]) or models['base']}",
        f"{'A LoRA adapter, merged' if is_adapter else 'Merged'} with `{recipe.method}`"
        f"{_path(recipe)} by nichemerge, seed {recipe.seed}; recipe `{recipe.digest[:16]}`, in full"
        " in `recipe.json`.",
        _table(("model", "licence"), [(m, text or "not stated") for m, text in licences.items()]),
        *(_score_section(scores, higher_is_better) if scores is not None else ()),
        *(_comparison_section(scores, baselines, recipe.seed) if scores and baselines else ()),
        *([f"## mergekit\n\n```yaml\n{mergekit.rstrip()}\n```"] if mergekit else []),
        *([f"## Merged weights\n\n```\n{_hashes(sha256, used)}\n```"] if sha256 else []),
        *(["## Details", _list(details)] if details else []),
        f"## Use\n\n```python\n{_usage(models['base'], is_adapter=is_adapter)}```",
    ]
    return "\n\n".join(sections) + "\n"


def _path(recipe: Recipe) -> str:
    return f", {len(recipe.path)} layers in the order of its path," if recipe.path else ""


def _usage(base: str, *, is_adapter: bool) -> str:
    if is_adapter:
        return (
            "from peft import PeftModel\nfrom transformers import AutoModelForCausalLM\n\n"
            f'base = AutoModelForCausalLM.from_pretrained("{base.partition("@")[0]}")\n'
            'model = PeftModel.from_pretrained(base, ".")\n'
        )
    return (
        "from transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
        'model = AutoModelForCausalLM.from_pretrained(".")\n'
        'tokenizer = AutoTokenizer.from_pretrained(".")\n'
    )


def _score_section(scores: Scores, higher_is_better: Mapping[str, bool]) -> tuple[str, str]:
    columns = ("task", "metric", "score", "95 % interval", "standard error", "examples")
    return (
        "## Scores\n\nOn examples that took no part in the search, nor in choosing this model. The"
        " interval is Wilson's where answers are right or wrong, else Student's around the standard"
        " error.",
        _table(columns, _rows(scores, higher_is_better)),
    )


def _comparison_section(
    scores: Scores, baselines: Sequence[tuple[str, Scores]], seed: int
) -> tuple[str, str]:
    rng = np.random.default_rng(seed)
    rows = []
    for name, theirs in baselines:
        for key in (key for key in scores if key in theirs):
            gain = difference(scores[key], theirs[key], rng)
            known = math.isfinite(gain.low) and math.isfinite(gain.high)
            ends = f"{gain.low:+.4f} to {gain.high:+.4f}" if known else "n/a"
            rows.append((name, *key.split("/", 1), f"{gain.value:+.4f}", ends))
    return (
        "## Against what it was merged from\n\nOn the same examples; positive where the merge is"
        " better. Paired bootstrap over examples.",
        _table(("model", "task", "metric", "ahead by", "95 % interval"), rows),
    )


def _hashes(sha256: Mapping[str, str], used: Sequence[str]) -> str:
    """As ``sha256sum`` writes them."""
    files = sorted(file for file in sha256 if file.partition("/")[0] in used)
    return "\n".join(f"{sha256[file]}  {file}" for file in files)


def public_names(zoo: Zoo, given: object) -> dict[str, str]:
    """What models are called in public: as given, else by their place on the Hub, else by name.

    A base without a name is called as its folder. A path says more about the machine than about
    the model, so none is ever shown.
    """
    known = given if isinstance(given, Mapping) else {}
    plain = {"base": Path(zoo.base).name, **{name: name for name, _ in zoo.parents}}
    plain |= {name: hub for name, path in _folders(zoo) if (hub := hub_name(Path(path)))}
    return {name: str(known.get(name, label)) for name, label in plain.items()}


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
        low, high = interval(score) if higher else [-end for end in reversed(interval(score))]
        ends = f"{low:.4f} to {high:.4f}" if math.isfinite(low) else "n/a"
        rows.append((task, label, f"{value:.4f}", ends, stderr, str(score.count)))
    return rows


def _table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [header, ("---",) * len(header), *rows]
    return "\n".join("| " + " | ".join(_cell(text) for text in line) + " |" for line in lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _list(details: Mapping[str, object]) -> str:
    return "\n".join(f"- {name}: {_cell(str(value))}" for name, value in details.items())
