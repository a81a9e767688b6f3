"""Read all of a checkpoint folder but its weights, and without running anything."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from search.layout import LayerGroups, Layout, Tensor
from search.problems import Problem
from workers.checkpoints import adapter as lora
from workers.checkpoints.headers import BITS, FLOATS, Malformed, is_pickle, read_header

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"

_MAX_JSON_BYTES = 4 * 2**20

_PICKLE_SUFFIXES = {".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle"}
# What trainers leave beside the weights. Never opened, so no reason to refuse a checkpoint.
_LEFTOVERS = re.compile(r"^(training_args|optimizer|scheduler|scaler|rng_state|random_states)")

_BUFFER = re.compile(r"(^|\.)(inv_freq|masked_bias|cos_cached|sin_cached)$")
_CAUSAL_MASK = re.compile(r"(^|\.)attn\.bias$")
_CAUSAL_MASK_DIMENSIONS = 4
_POSITIONS = re.compile(r"wpe|position|token_type")
_PACKED = re.compile(
    r"\.(qweight|qzeros|g_idx|weight_packed|weight_scale(_inv)?|absmax|quant_map|quant_state\..*|SCB)$"
)
_WHOLE_NUMBERS = {"U8", "I8", "U16", "I16", "U32", "I32"}
_NARROW = ("F4", "F6_", "F8_")


@dataclass(frozen=True, slots=True)
class Folder:
    """A checkpoint on disk.

    Args:
        path: of the folder.
        config: parsed config.json.
        tensors: every stored tensor by name.
        files: the name of the file that holds each tensor.
        aliases: tied tensors by name, with the name that holds their weights.
        adapter: what it changes in the base, where it is an adapter; its tensors are then the
            base's in name and shape, and ``files`` knows only those that it changes.
        problems: why it cannot be used; the rest is as complete as was possible.
    """

    path: Path
    config: Mapping[str, Any] = field(default_factory=dict)
    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)
    adapter: lora.Adapter | None = None
    problems: tuple[Problem, ...] = ()

    @property
    def layout(self) -> Layout:
        """The tensors that are merged: floating point, no buffers, tied ones once."""
        return Layout.of((t for t in self.tensors.values() if is_merged(t)), self.aliases)

    @property
    def dtype(self) -> str:
        """float32, bfloat16 or float16: the dtype of most of its elements."""
        elements: Counter[str] = Counter()
        for tensor in self.layout.tensors:
            elements[FLOATS[tensor.dtype]] += tensor.size
        return elements.most_common(1)[0][0] if elements else "float32"

    @property
    def size_bytes(self) -> int:
        """Bytes of all tensors that it stores."""
        if self.adapter is not None:
            return self.adapter.size_bytes
        return sum(tensor.size * BITS[tensor.dtype] // 8 for tensor in self.tensors.values())


def is_merged(tensor: Tensor) -> bool:
    """Whether a tensor holds weights, not a buffer (frequencies, masks) or whole numbers."""
    if tensor.dtype not in FLOATS or _BUFFER.search(tensor.name):
        return False
    mask = _CAUSAL_MASK.search(tensor.name) and len(tensor.shape) == _CAUSAL_MASK_DIMENSIONS
    return not mask


def embeddings(layout: Layout) -> tuple[list[Tensor], list[Tensor]]:
    """The embeddings of a model (of positions, too), and its heads."""
    blocks = {block.name: block.pieces for block in layout.blocks(LayerGroups())}
    by_name = {tensor.name: tensor for tensor in layout.tensors}
    tables, heads = (
        [by_name[piece.tensor] for piece in blocks.get(name, ())] for name in ("embed", "head")
    )
    return tables, heads


def token_tables(layout: Layout) -> frozenset[str]:
    """Names of the tensors that have a row for every token: embeddings and heads."""
    tables, heads = embeddings(layout)
    return frozenset(t.name for t in (*tables, *heads) if not _POSITIONS.search(t.name))


def read_folder(where: str, path: Path) -> Folder:
    """Read config.json and the headers of the weight files; every problem is gathered.

    Args:
        where: field that problems are reported under (``parents[1].path``).
        path: the folder.
    """
    if not path.is_dir():
        return Folder(path, problems=(_problem(where, f"{path} is not a folder"),))
    names = sorted(entry.name for entry in path.iterdir())
    if not names:
        message = f"{path} is empty; expected config.json and {SINGLE}"
        return Folder(path, problems=(_problem(where, message),))
    pickles = list(_pickles(path, names))
    problems = [_problem(where, message) for message in pickles]
    config, wrong = _config(path, names)
    problems += [_problem(where, message) for message in wrong]
    tensors: dict[str, Tensor] = {}
    files: dict[str, str] = {}
    # That there are no other weights than the pickle need not be said as well.
    if not pickles or any(name in names for name in (SINGLE, INDEX)):
        for file, message in _weights(path, names, tensors, files):
            problems.append(_problem(where, f"{file} {message}" if file else message))
    if "quantization_config" not in config:
        problems += [_problem(where, message) for message in _unmergeable(tensors.values())]
    aliases = _aliases(config, tensors)
    return Folder(path, config, tensors, files, aliases, problems=tuple(problems))


def read_parent(where: str, path: Path, base: Folder) -> Folder:
    """Read a fine-tuned model, which may be an adapter of the base; as ``read_folder``.

    An adapter reads like the checkpoint that it makes of the base.
    """
    if not is_adapter(path):
        return read_folder(where, path)
    problems = list(_pickles(path, sorted(entry.name for entry in path.iterdir())))
    config: dict[str, Any] = {}
    stored: dict[str, Tensor] = {}
    try:
        config = read_json(path / lora.CONFIG)
    except Malformed as error:
        problems.append(f"{lora.CONFIG} {error}")
    try:
        stored = {t.name: t for t in read_header(path / lora.WEIGHTS).tensors}
    except Malformed as error:
        problems.append(f"{lora.WEIGHTS} {error}")
    adapter = lora.Adapter(config, stored)
    if not problems and base.problems:
        problems += lora.unsupported(config)  # all that can be told without a base
    elif not problems:
        adapter, wrong = lora.read_adapter(config, stored, base.tensors, base.aliases)
        problems += wrong
    return Folder(
        path,
        base.config,
        {**base.tensors, **_trained(adapter)},
        dict.fromkeys((*adapter.updates, *adapter.whole), lora.WEIGHTS),
        base.aliases,
        adapter,
        tuple(_problem(where, message) for message in problems),
    )


def is_adapter(path: Path) -> bool:
    """Whether a folder holds an adapter, and no whole model beside it."""
    whole = any((path / name).is_file() for name in (SINGLE, INDEX))
    return (path / lora.CONFIG).is_file() and not whole


def _trained(adapter: lora.Adapter) -> dict[str, Tensor]:
    """Tensors that an adapter holds in full, under the base's names."""
    return {
        name: adapter.stored[key].model_copy(update={"name": name})
        for name, key in adapter.whole.items()
    }


def hub_name(path: Path) -> str | None:
    """``org/name@commit`` of a folder in the Hub's cache, which is called by its commit."""
    repository = path.parent.parent.name
    if path.parent.name != "snapshots" or not repository.startswith("models--"):
        return None
    return f"{repository.removeprefix('models--').replace('--', '/')}@{path.name}"


def read_json(path: Path, limit: int = _MAX_JSON_BYTES) -> dict[str, Any]:
    """A JSON object from a file of at most ``limit`` bytes.

    Raises:
        Malformed: anything else.
    """
    try:
        with path.open("rb") as file:
            text = file.read(limit + 1)
        if len(text) > limit:
            raise Malformed(f"has more than {limit} bytes, which is refused")
        document = json.loads(text)
    except OSError as error:
        raise Malformed(f"cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        if isinstance(error, Malformed):
            raise
        raise Malformed(f"is not valid JSON: {error}") from None
    if not isinstance(document, dict):
        raise Malformed("is not a JSON object")
    return document


def _problem(where: str, message: str) -> Problem:
    return Problem(field=where, message=message)


def _pickles(path: Path, names: Iterable[str]) -> Iterator[str]:
    """Weights that can run code when they are loaded, told by name and first bytes."""
    for name in names:
        file = path / name
        if _LEFTOVERS.match(name) or name.endswith((".safetensors", ".json")) or not file.is_file():
            continue
        with file.open("rb") as opened:
            head = opened.read(8)
        if file.suffix in _PICKLE_SUFFIXES or is_pickle(head):
            yield (
                f"{name} is a pickle, which can run code when it is loaded; convert it to "
                "safetensors (model.save_pretrained with transformers) and delete it"
            )


def _config(path: Path, names: Iterable[str]) -> tuple[dict[str, Any], list[str]]:
    if "config.json" not in names:
        if lora.CONFIG in names:
            return {}, ["is an adapter; a base is a whole checkpoint (peft: merge_and_unload)"]
        return {}, ["config.json is missing; is this a Hugging Face checkpoint?"]
    try:
        config = read_json(path / "config.json")
    except Malformed as error:
        return {}, [f"config.json {error}"]
    problems = []
    for name in ("config.json", "tokenizer_config.json"):
        if name in names and _has_auto_map(path / name):
            problems.append(
                f"{name} has an auto_map: it wants to run code that lies beside the weights, which "
                "is never done. Remove auto_map if transformers knows the model without it"
            )
    if "quantization_config" in config:
        problems.append(
            "config.json has a quantization_config; quantized weights cannot be merged, use the "
            "original ones"
        )
    return config, problems


def _has_auto_map(path: Path) -> bool:
    try:
        return "auto_map" in read_json(path, limit=64 * 2**20)
    except Malformed:
        return False  # reported where the file is needed


def _weights(
    path: Path, names: Iterable[str], tensors: dict[str, Tensor], files: dict[str, str]
) -> Iterator[tuple[str, str]]:
    """Fill in tensors and their files; yields (file, problem)."""
    if SINGLE in names:
        yield from _shard(path, SINGLE, tensors, files)
    elif INDEX in names:
        yield from _sharded(path, names, tensors, files)
    else:
        found = [name for name in names if name.endswith(".safetensors")]
        hint = f"found {', '.join(found)} instead" if found else "only safetensors weights are read"
        yield SINGLE, f"is missing, and so is {INDEX}; {hint}"


def _shard(
    path: Path, name: str, tensors: dict[str, Tensor], files: dict[str, str]
) -> Iterator[tuple[str, str]]:
    try:
        header = read_header(path / name)
    except Malformed as error:
        yield name, str(error)
        return
    for tensor in header.tensors:
        if tensor.name in files:
            yield name, f"holds tensor '{tensor.name}', and so does {files[tensor.name]}"
        tensors[tensor.name], files[tensor.name] = tensor, name


def _sharded(
    path: Path, names: Iterable[str], tensors: dict[str, Tensor], files: dict[str, str]
) -> Iterator[tuple[str, str]]:
    try:
        weight_map = read_json(path / INDEX).get("weight_map")
    except Malformed as error:
        yield INDEX, str(error)
        return
    if not isinstance(weight_map, dict) or not weight_map:
        yield INDEX, "has no weight_map"
        return
    broken = set()
    for shard in sorted({str(shard) for shard in weight_map.values()}):
        if not re.fullmatch(r"[\w.-]+\.safetensors", shard):
            problem = [(INDEX, f"names '{shard}', which is no safetensors file of this folder")]
        elif shard not in names:
            problem = [(shard, f"is missing, but {INDEX} names it; copy the folder again")]
        else:
            problem = list(_shard(path, shard, tensors, files))
        if problem:
            broken.add(shard)
        yield from problem
    absent = [n for n, s in weight_map.items() if files.get(n) != s and s not in broken]
    if absent:
        yield INDEX, f"places {some(absent)} in files that do not hold them"
    unlisted = [name for name in tensors if name not in weight_map]
    if unlisted:
        yield INDEX, f"does not list {some(unlisted)}, which its files hold"


def _unmergeable(tensors: Iterable[Tensor]) -> Iterator[str]:
    packed, strange = [], []
    for tensor in tensors:
        whole = tensor.dtype in _WHOLE_NUMBERS and tensor.name.endswith(".weight")
        if whole or tensor.dtype.startswith(_NARROW) or _PACKED.search(tensor.name):
            packed.append(tensor.name)
        elif tensor.dtype in {"F64", "C64"}:
            strange.append(tensor.name)
    if packed:
        yield f"holds quantized weights ({some(packed)}); only unquantized ones can be merged"
    if strange:
        yield f"holds {some(strange)} in float64 or complex64; save as float32, bfloat16 or float16"


def some(names: Iterable[str], limit: int = 3) -> str:
    """A few names in quotes, and how many more there are."""
    listed = sorted(names)
    more = f" and {len(listed) - limit} more" if len(listed) > limit else ""
    return ", ".join(f"'{name}'" for name in listed[:limit]) + more


def _aliases(config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Heads that share the memory of the embedding.

    A head that is not stored is tied; one that is stored is tied when config.json says so
    (transformers ties the two if they are equal). Where config.json is silent, what is stored
    counts.
    """
    tables, heads = embeddings(Layout.of(t for t in tensors.values() if is_merged(t)))
    tied = config.get("tie_word_embeddings")
    if heads and tied:
        return {
            head.name: table.name for head in heads for table in tables if table.shape == head.shape
        }
    tokens = config.get("vocab_size")
    if not heads and tied is not False:
        table = next((table.name for table in tables if table.shape[:1] == (tokens,)), None)
        return {"lm_head.weight": table} if table else {}
    return {}
