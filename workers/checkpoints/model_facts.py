"""What a checkpoint folder is, in a line; and what a merge takes from the base as it is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from workers.checkpoints.chat_template import chat_template
from workers.checkpoints.folder import Folder, is_merged
from workers.checkpoints.licence import licence

Template = Literal["none", "the base's", "its own"]


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """One model of a search.

    Args:
        name: as recipes call it; ``base`` is the base.
        architecture: class name in config.json, or else the model type; of what it adapts for a
            LoRA adapter.
        dtype: of most of its weights.
        parameters: elements that are merged; tied ones count once.
        size_bytes: of its weight files.
        tied: whether its head is its embedding.
        licence: as its model card states.
        chat_template: whose it has.
        is_adapter: whether it is a LoRA adapter of the base.
    """

    name: str
    architecture: str
    dtype: str
    parameters: int
    size_bytes: int
    tied: bool
    licence: str | None
    chat_template: Template
    is_adapter: bool = False


@dataclass(frozen=True, slots=True)
class Copied:
    """Tensors that the merged model has from the base, unchanged, for one reason."""

    reason: str
    tensors: tuple[str, ...]


def facts_of(name: str, folder: Folder, base: Folder) -> ModelFacts:
    """Facts of a folder whose headers were read."""
    architectures = folder.config.get("architectures")
    named = architectures[0] if isinstance(architectures, list) and architectures else None
    kind = str(named or folder.config.get("model_type") or "unknown")
    ours, own = chat_template(base.path), chat_template(folder.path)
    template: Template = "none" if own is None else "the base's" if own == ours else "its own"
    return ModelFacts(
        name=name,
        architecture=f"LoRA on {kind}" if folder.adapter else kind,
        dtype=folder.dtype,
        parameters=folder.layout.size,
        size_bytes=folder.size_bytes,
        tied=bool(folder.aliases),
        licence=licence(folder.path),
        chat_template=template,
        is_adapter=folder.adapter is not None,
    )


def copied_from(base: Folder) -> Iterator[Copied]:
    """Tensors of the base that are not merged, by reason."""
    rest = [t for t in base.tensors.values() if not is_merged(t) and t.name not in base.aliases]
    floating = [t.name for t in rest if t.dtype in ("F32", "F16", "BF16")]
    whole = [t.name for t in rest if t.name not in floating]
    tied = [name for name in base.aliases if name in base.tensors]
    for reason, names in (
        ("a buffer that follows from the configuration (frequencies, masks)", floating),
        ("whole numbers or flags, which have no average", whole),
        ("tied: a second copy of the embedding, which is merged", tied),
    ):
        if names:
            yield Copied(reason, tuple(names))
