"""Read the header of a safetensors file without trusting it.

The library that maps the data later is correct, but spends seconds on a header that was made to be
large; so sizes, counts, dtypes, shapes and offsets are checked here, before any file is opened by
it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from search.layout import Tensor

MAX_HEADER_BYTES = 16 * 2**20
MAX_TENSORS = 20_000

# The dtypes that weights can be merged in, and what torch calls them.
FLOATS = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}
# Bits per element, by safetensors' names of dtypes.
BITS = {
    "BOOL": 8,
    "U8": 8,
    "I8": 8,
    "F4": 4,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    "F8_E5M2": 8,
    "F8_E4M3": 8,
    "F8_E8M0": 8,
    "F8_E5M2FNUZ": 8,
    "F8_E4M3FNUZ": 8,
    "I16": 16,
    "U16": 16,
    "F16": 16,
    "BF16": 16,
    "I32": 32,
    "U32": 32,
    "F32": 32,
    "C64": 64,
    "F64": 64,
    "I64": 64,
    "U64": 64,
}

_PREFIX_BYTES = 8
_ZIP = b"PK\x03\x04"  # what torch.save writes since 1.6
_PICKLES = tuple(bytes([0x80, protocol]) for protocol in range(2, 6))


class Malformed(ValueError):
    """A file that is not what it claims to be; the message says in which way, and what to do."""


@dataclass(frozen=True, slots=True)
class Header:
    """What a safetensors file holds, in the order of its data."""

    tensors: tuple[Tensor, ...]
    metadata: Mapping[str, str]


def is_pickle(head: bytes) -> bool:
    """Whether a file that begins like this is a pickle, or the archive that torch puts one in."""
    return head.startswith((_ZIP, *_PICKLES))


def read_header(path: Path) -> Header:
    """The header of a safetensors file whose size agrees with it to the byte.

    Raises:
        Malformed: anything is wrong with the file.
    """
    if not path.is_file():
        raise Malformed("is no regular file")
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(0)
            prefix = file.read(_PREFIX_BYTES)
            length = int.from_bytes(prefix, "little")
            _check_length(prefix, length, size)
            text = file.read(length)
    except OSError as error:
        raise Malformed(f"cannot be read: {error.strerror}") from None
    return _parsed(text, data_bytes=size - _PREFIX_BYTES - length)


def _check_length(prefix: bytes, length: int, size: int) -> None:
    if len(prefix) < _PREFIX_BYTES:
        raise Malformed(f"has {size} bytes, too few for safetensors; copy the file again")
    if length > MAX_HEADER_BYTES:
        if is_pickle(prefix):
            raise Malformed(
                "is a pickle under another name, which can run code; convert it to safetensors"
            )
        raise Malformed(
            f"says its header has {length} bytes; more than {MAX_HEADER_BYTES} is refused. "
            "It is damaged, or no safetensors file"
        )
    if _PREFIX_BYTES + length > size:
        raise Malformed(f"ends within its header ({size} bytes); copy the file again")


def _parsed(text: bytes, *, data_bytes: int) -> Header:
    try:
        document = json.loads(text.decode(), object_pairs_hook=_no_duplicates)
    except (ValueError, RecursionError) as error:
        raise Malformed(f"has a damaged header ({error}); copy the file again") from None
    if not isinstance(document, dict):
        raise Malformed("has a header that is no JSON object; copy the file again")
    metadata = document.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise Malformed("has metadata that are not strings")
    if len(document) > MAX_TENSORS:
        raise Malformed(f"has {len(document)} tensors; more than {MAX_TENSORS} are refused")
    entries = sorted((_entry(name, entry) for name, entry in document.items()), key=_range)
    ends = [0, *(stop for _, _, stop in entries)]
    for (tensor, start, _), end in zip(entries, ends, strict=False):
        if start != end:
            raise Malformed(f"has a gap or an overlap before tensor '{tensor.name}'")
    if ends[-1] != data_bytes:
        what = "is truncated" if data_bytes < ends[-1] else "has bytes behind its last tensor"
        raise Malformed(
            f"{what}: {data_bytes} bytes of data, its header says {ends[-1]}; copy the file again"
        )
    return Header(tuple(tensor for tensor, _, _ in entries), metadata)


def _range(entry: tuple[Tensor, int, int]) -> tuple[int, int]:
    return entry[1], entry[2]


def _entry(name: str, entry: Any) -> tuple[Tensor, int, int]:
    match entry:
        case {"dtype": str(dtype), "shape": list(shape), "data_offsets": [start, stop], **rest}:
            if rest or dtype not in BITS or not all(map(_is_count, [*shape, start, stop])):
                raise Malformed(f"describes tensor '{name}' wrongly; it is damaged or too new")
            if (stop - start) * 8 != math.prod(shape) * BITS[dtype]:
                raise Malformed(
                    f"gives tensor '{name}' {stop - start} bytes, which is not what shape {shape} "
                    f"takes in {dtype}"
                )
            return Tensor(name=name, shape=tuple(shape), dtype=dtype), start, stop
    raise Malformed(f"describes tensor '{name}' wrongly; it is damaged or too new")


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    mapping = dict(pairs)
    if len(mapping) != len(pairs):
        keys = sorted(key for key, _ in pairs)
        twice = next(first for first, second in pairwise(keys) if first == second)
        raise ValueError(f"'{twice}' stands there twice")
    return mapping
