"""Whether models can be merged at all, told from headers, configurations and tokenizers.

No weight is read, nothing that lies in a folder is run, and every problem is gathered.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from search.layout import Layout, Tensor
from search.problems import Problem
from search.spec import BASE
from workers.checkpoints.adapter import other_base
from workers.checkpoints.chat_template import chat_template, difference
from workers.checkpoints.folder import (
    Folder,
    hub_name,
    is_merged,
    read_folder,
    read_parent,
    some,
    token_tables,
)
from workers.checkpoints.headers import BITS, Malformed
from workers.checkpoints.licence import licence
from workers.checkpoints.model_facts import Copied, ModelFacts, copied_from, facts_of
from workers.checkpoints.vocabulary import alignment, read_vocabulary

# Read differently, the same weights are another model.
_MUST_AGREE = ("model_type", "num_attention_heads", "num_key_value_heads", "head_dim", "n_head")
# A merge takes these from the base; with other values a parent is not quite itself any more.
_SHOULD_AGREE = (
    "hidden_act",
    "rms_norm_eps",
    "rope_parameters",
    "rope_scaling",
    "rope_theta",
    "sliding_window",
)
_SIZES = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True, slots=True)
class Preflight:
    """What is known of a set of models before any weight is read.

    Args:
        layout: of the base; None when it cannot be told.
        dtype: of the base: float32, bfloat16 or float16.
        parameters: elements that are merged.
        memory_bytes: resident on a worker: base, parents and the model that candidates are merged
            into.
        checkpoint_bytes: of one merged model in the base's dtype, the largest.
        added_bytes: of these, what is in more layers than the base has; a worker has them without.
        problems: why nothing can be merged.
        warnings: what to know before merging.
        models: base and parents, those whose headers could be read.
        copied: tensors that the merged model has from the base as they are.
    """

    layout: Layout | None
    dtype: str
    parameters: int
    memory_bytes: int
    checkpoint_bytes: int
    problems: tuple[Problem, ...]
    warnings: tuple[Problem, ...]
    models: tuple[ModelFacts, ...] = ()
    copied: tuple[Copied, ...] = ()
    added_bytes: int = 0


def preflight(base: tuple[str, Path], parents: Sequence[tuple[str, str, Path]]) -> Preflight:
    """Check a base and its fine-tuned descendants against each other.

    Args:
        base: (field, folder); the field is what problems are reported under.
        parents: (field, name, folder) each.
    """
    ours = read_folder(*base)
    theirs = [(field, name, read_parent(field, path, ours)) for field, name, path in parents]
    problems = [*ours.problems, *_loadable(base[0], ours)]
    warnings: list[Problem] = []
    for field, _, folder in theirs:
        problems += folder.problems
        if not folder.problems and not ours.problems:
            problems += [Problem(field=field, message=m) for m in _misfits(ours, folder)]
            warnings += [Problem(field=field, message=m) for m in _cautions(ours, folder)]
    tokenizer_problems, tokenizer_warnings = _tokenizers(base, parents)
    size = checkpoint_bytes(ours)
    return Preflight(
        layout=ours.layout if ours.tensors else None,
        dtype=ours.dtype,
        parameters=ours.layout.size,
        memory_bytes=ours.size_bytes + sum(f.size_bytes for _, _, f in theirs) + size,
        checkpoint_bytes=size,
        problems=(*problems, *tokenizer_problems),
        warnings=(
            *warnings,
            *tokenizer_warnings,
            *_chat_templates(base, parents),
            *_licences(base, parents),
        ),
        models=tuple(
            facts_of(name, folder, ours)
            for name, folder in ((BASE, ours), *((name, folder) for _, name, folder in theirs))
            if folder.tensors
        ),
        copied=tuple(copied_from(ours)),
    )


def checkpoint_bytes(base: Folder, dtype: str | None = None) -> int:
    """Bytes of the tensors of a merged model in a dtype, that of the base by default."""
    element = _SIZES[dtype or base.dtype]
    merged = {tensor.name for tensor in base.layout.tensors}
    kept = (t for t in base.tensors.values() if t.name not in merged and t.name not in base.aliases)
    return base.layout.size * element + sum(t.size * BITS[t.dtype] // 8 for t in kept)


def _loadable(field: str, base: Folder) -> Iterator[Problem]:
    """What only the base must have, because it is the model that is evaluated."""
    kind = base.config.get("model_type")
    if not base.problems:
        # Imported late: the rest of this module answers before transformers would be loaded.
        from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

        if kind not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
            message = f"config.json has model_type '{kind}': no causal language model is called so"
            yield Problem(field=field, message=message)
    if base.tensors and not base.layout.tensors:
        yield Problem(field=field, message="holds no floating-point weights")


def _misfits(base: Folder, parent: Folder) -> Iterator[str]:
    """Why a parent cannot be merged with the base."""
    wanted = _stored(base)
    have = {n: t for n, t in _stored(parent).items() if n not in base.aliases or n in wanted}
    if missing := wanted.keys() - have.keys():
        yield (
            f"lacks {some(missing)}, which the base has; was it fine-tuned from another model, or "
            "are its embeddings tied when the base's are not?"
        )
    if extra := have.keys() - wanted.keys():
        yield f"has {some(extra)}, which the base lacks; was it fine-tuned from another model?"
    if untied := [n for n in base.aliases if n in parent.tensors and n not in parent.aliases]:
        yield f"has its own {some(untied)}, which the base shares with its embedding"
    yield from _shapes(base, {n: have[n] for n in wanted if n in have})
    for key in _MUST_AGREE:
        if base.config.get(key) != parent.config.get(key):
            yield (
                f"config.json has {key} {parent.config.get(key)!r}, the base's has "
                f"{base.config.get(key)!r}"
            )


def _stored(folder: Folder) -> dict[str, Tensor]:
    return {
        name: tensor
        for name, tensor in folder.tensors.items()
        if is_merged(tensor) and name not in folder.aliases
    }


def _shapes(base: Folder, parent: Mapping[str, Tensor]) -> Iterator[str]:
    tables = token_tables(base.layout)
    other = [
        name
        for name, tensor in parent.items()
        if tensor.shape[name in tables :] != base.tensors[name].shape[name in tables :]
    ]
    if other:
        name = min(other)
        yield (
            f"has other shapes than the base in {some(other)}: {_shape(parent[name])} for "
            f"{_shape(base.tensors[name])}; name a model that was fine-tuned from this base"
        )


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "scalar"


def _cautions(base: Folder, parent: Folder) -> Iterator[str]:
    if parent.adapter is not None:
        place = (hub_name(base.path) or base.path.name).partition("@")[0]
        names = {place, str(base.config.get("_name_or_path", ""))}
        if (caution := other_base(parent.adapter, names)) is not None:
            yield caution
    for name in sorted(token_tables(base.layout) & parent.tensors.keys()):
        theirs, ours = parent.tensors[name].shape[:1], base.tensors[name].shape[:1]
        if theirs != ours:
            yield (
                f"has {theirs[0]} rows in '{name}', the base {ours[0]}; the merged model has those "
                "of the base, matched by token"
            )
    if base.dtype != parent.dtype:
        yield f"is stored in {parent.dtype}, the base in {base.dtype}; sums are taken in float32"
    for key in _SHOULD_AGREE:
        if base.config.get(key) != parent.config.get(key):
            yield (
                f"config.json has {key} {parent.config.get(key)!r}; the merged model has the "
                f"base's {base.config.get(key)!r}"
            )


def _tokenizers(
    base: tuple[str, Path], parents: Sequence[tuple[str, str, Path]]
) -> tuple[list[Problem], list[Problem]]:
    """Problems and warnings."""
    problems: list[Problem] = []
    warnings: list[Problem] = []
    field, folder = base
    if not folder.is_dir():
        return problems, warnings
    try:
        if read_vocabulary(folder) is None:
            message = "has no tokenizer.json; save the tokenizer into the folder"
            problems.append(Problem(field=field, message=message))
    except Malformed as error:
        problems.append(Problem(field=field, message=str(error)))
    for field, _, parent in parents if not problems else ():
        if not parent.is_dir():
            continue
        try:
            plan = alignment(folder, parent)
        except Malformed as error:
            problems.append(Problem(field=field, message=str(error)))
            continue
        problems += [
            Problem(field=field, message=f"its tokenizer {text}; name a model with the base's")
            for text in plan.problems
        ]
        if plan.summary is not None:
            warnings.append(Problem(field=field, message=plan.summary))
    return problems, warnings


def _chat_templates(
    base: tuple[str, Path], parents: Sequence[tuple[str, str, Path]]
) -> Iterator[Problem]:
    ours = chat_template(base[1])
    for field, _, folder in parents:
        if (message := difference(ours, chat_template(folder))) is not None:
            yield Problem(field=field, message=message)


def _licences(
    base: tuple[str, Path], parents: Sequence[tuple[str, str, Path]]
) -> Iterator[Problem]:
    ours = licence(base[1])
    for field, _, folder in parents:
        stated = licence(folder)
        if stated and ours and stated != ours:
            message = f"has licence {stated}, the base {ours}; a merge is bound by both"
            yield Problem(field=field, message=message)
