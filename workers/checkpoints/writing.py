"""Write a checkpoint folder as transformers would, but streamed, checked and all at once."""

from __future__ import annotations

import errno
import glob
import hashlib
import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch
from torch import Tensor

from workers.checkpoints.adapter import CONFIG, WEIGHTS
from workers.checkpoints.folder import INDEX, SINGLE, read_folder, read_json
from workers.checkpoints.vocabulary import tokenizer_files
from workers.planning.preflight import checkpoint_bytes

CHECKSUMS = "SHA256SUMS"
_GENERATION = "generation_config.json"
_NAMES = {
    torch.float32: "F32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.float64: "F64",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
SHARD_BYTES = 2 * 10**9
# Configuration, tokenizer, index and headers: more than they take, next to any weights.
_MARGIN_BYTES = 64 * 2**20
_ALIGNMENT = 8
# A shard is written in less, and a whole attempt at an export takes no longer.
_ABANDONED_S = 4 * 3600

Files = dict[str, tuple[str, int]]


def write_checkpoint(
    folder: Path,
    tensors: Iterator[tuple[str, Tensor]],
    source: Path,
    *,
    config: Mapping[str, Any] | None = None,
    extra: Mapping[str, str] | None = None,
    shard_bytes: int = SHARD_BYTES,
    size_bytes: int | None = None,
    check: Callable[[Path], None] | None = None,
) -> Files:
    """Write tensors beside the configuration and tokenizer of ``source``.

    The folder appears under its name only when every byte of it is on disk; a folder that had the
    name is replaced. At most one shard is held in memory. What a writer that was killed left of the
    same folder goes.

    Args:
        folder: to be written.
        tensors: name and value; tied ones once. A yielded tensor must not change later.
        source: the checkpoint folder (the base) that configuration, generation configuration,
            tokenizer and chat template are copied from.
        config: what config.json says otherwise than that of the source.
        extra: further files (model card, recipe.json, ...) by name, as text.
        shard_bytes: a new file begins before a shard would grow beyond this.
        size_bytes: of all tensors, for the check of the disk; that of the source's by default.
        check: looks at the whole folder before it gets its name, and raises if it must not.

    Returns:
        name to (sha256, size in bytes) of every file; the same is in ``SHA256SUMS``.

    Raises:
        OSError: the disk is too small (ENOSPC, told before anything is written) or fails.
    """
    size_bytes = size_bytes or checkpoint_bytes(read_folder("source", source))
    with _in_its_place(folder, size_bytes, check) as partial:
        files, dtype = _write_weights(partial, tensors, shard_bytes)
        files["config.json"] = _write(
            partial / "config.json", [_config(source, dtype, config or {})]
        )
        _write_rest(partial, files, _copied(source), source, extra or {})
    return files


def _copied(source: Path) -> list[str]:
    return [*([_GENERATION] if (source / _GENERATION).is_file() else []), *tokenizer_files(source)]


def write_adapter(
    folder: Path,
    tensors: Mapping[str, Tensor],
    config: Mapping[str, Any],
    source: Path,
    *,
    extra: Mapping[str, str] | None = None,
    check: Callable[[Path], None] | None = None,
) -> Files:
    """Write a LoRA adapter as PEFT does, with the tokenizer of ``source``, its base.

    All at once as ``write_checkpoint``, and with the same result and errors.
    """
    size_bytes = sum(tensor.nbytes for tensor in tensors.values())
    with _in_its_place(folder, size_bytes, check) as partial:
        files = {
            WEIGHTS: _write(partial / WEIGHTS, _safetensors(tensors)),
            CONFIG: _write(partial / CONFIG, [_json(config)]),
        }
        _write_rest(partial, files, tokenizer_files(source), source, extra or {})
    return files


@contextmanager
def _in_its_place(
    folder: Path, size_bytes: int, check: Callable[[Path], None] | None = None
) -> Iterator[Path]:
    """A folder to write into, which gets its name at the end, or goes when that is not reached."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    _sweep(folder)
    _check_space(folder.parent, size_bytes)
    partial = folder.with_name(f".{folder.name}.{uuid4().hex}.partial")
    partial.mkdir()
    try:
        yield partial
        _sync(partial)
        if check is not None:
            check(partial)
        _put(partial, folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _write_rest(
    folder: Path, files: Files, copied: Iterable[str], source: Path, extra: Mapping[str, str]
) -> None:
    """All that is no weights and no configuration; checksums of everything at the end."""
    for name in copied:
        (folder / name).parent.mkdir(exist_ok=True)
        files[name] = _write(folder / name, [(source / name).read_bytes()])
        _sync((folder / name).parent)
    for name, text in extra.items():
        files[name] = _write(folder / name, [text.encode()])
    files[CHECKSUMS] = _write(folder / CHECKSUMS, [_checksums(files)])


def _sweep(folder: Path) -> None:
    """Remove what is left of attempts at a folder that have not been written to for long."""
    for left in folder.parent.glob(f".{glob.escape(folder.name)}.*"):
        with suppress(FileNotFoundError):  # another writer may be done with it meanwhile
            idle_s = time.time() - left.stat().st_mtime
            if left.suffix in (".partial", ".old") and idle_s > _ABANDONED_S:
                shutil.rmtree(left)


def _check_space(parent: Path, size_bytes: int) -> None:
    needed, free = size_bytes + _MARGIN_BYTES, shutil.disk_usage(parent).free
    if needed > free:
        message = (
            f"the checkpoint needs {needed} bytes, and {free} are free; make room or move artifacts"
        )
        raise OSError(errno.ENOSPC, message, str(parent))


def _write_weights(
    folder: Path, tensors: Iterator[tuple[str, Tensor]], shard_bytes: int
) -> tuple[Files, str]:
    """Shards, under provisional names until their number is known; the dtype of most weights."""
    written: list[tuple[list[str], tuple[str, int]]] = []
    total = 0
    elements: Counter[torch.dtype] = Counter()
    for number, shard in enumerate(_shards(tensors, shard_bytes)):
        # No loop variable: it would keep a tensor of this shard alive beside the next one.
        total += sum(tensor.nbytes for tensor in shard.values())
        elements.update({dtype: _floats(shard, dtype) for dtype in _NAMES})
        written.append((list(shard), _write(folder / f"shard-{number}", _safetensors(shard))))
        shard.clear()
    files: Files = {}
    weight_map: dict[str, str] = {}
    for number, (names, digest) in enumerate(written):
        name = f"model-{number + 1:05}-of-{len(written):05}.safetensors" if written[1:] else SINGLE
        (folder / f"shard-{number}").rename(folder / name)
        files[name] = digest
        weight_map |= dict.fromkeys(names, name)
    if written[1:]:
        index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
        files[INDEX] = _write(folder / INDEX, [_json(index)])
    return files, str(elements.most_common(1)[0][0]).removeprefix("torch.")


def _floats(shard: Mapping[str, Tensor], dtype: torch.dtype) -> int:
    """Number of elements of a floating-point dtype."""
    return sum(t.numel() for t in shard.values() if t.dtype == dtype and dtype.is_floating_point)


def _shards(tensors: Iterator[tuple[str, Tensor]], shard_bytes: int) -> Iterator[dict[str, Tensor]]:
    shard: dict[str, Tensor] = {}
    size = 0
    for name, tensor in tensors:
        if shard and size + tensor.nbytes > shard_bytes:
            yield shard
            shard, size = {}, 0
        shard[name] = tensor
        size += tensor.nbytes
    if shard:
        yield shard


def _safetensors(tensors: Mapping[str, Tensor]) -> Iterator[bytes | memoryview]:
    """The bytes of a safetensors file: header, then each tensor, widest elements first.

    Written here and not by the library, which would copy the shard once more and hash nothing.
    """
    ordered = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    start = 0
    for name in ordered:
        tensor = tensors[name]
        header[name] = {
            "dtype": _NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [start, start + tensor.nbytes],
        }
        start += tensor.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    yield len(text).to_bytes(8, "little") + text
    for name in ordered:
        flat = tensors[name].detach().cpu().contiguous().reshape(-1)
        if flat.numel():
            yield flat.view(torch.uint8).numpy().data


def _write(path: Path, chunks: Iterable[bytes | memoryview]) -> tuple[str, int]:
    """Write and flush to disk; returns sha256 and size."""
    digest, size = hashlib.sha256(), 0
    with path.open("xb") as file:
        for chunk in chunks:
            file.write(chunk)
            digest.update(chunk)
            size += len(chunk)
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest(), size


def _config(source: Path, dtype: str, changes: Mapping[str, Any]) -> bytes:
    config = read_json(source / "config.json")
    config.pop("torch_dtype", None)  # what ``dtype`` was called before transformers 5
    return _json(config | {"dtype": dtype} | dict(changes))


def _json(document: Any) -> bytes:
    return (json.dumps(document, indent=2) + "\n").encode()


def _checksums(files: Files) -> bytes:
    """In the format that ``sha256sum --check`` reads."""
    return "".join(f"{digest}  {name}\n" for name, (digest, _) in sorted(files.items())).encode()


def _put(partial: Path, folder: Path) -> None:
    """Rename into place; of a folder that is there already only the name is kept."""
    old = folder.with_name(f".{folder.name}.{uuid4().hex}.old")
    replaced = folder.exists()
    if replaced:
        folder.rename(old)
    partial.rename(folder)
    _sync(folder.parent)
    if replaced:
        shutil.rmtree(old)


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
