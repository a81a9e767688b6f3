from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from workers.checkpoints.headers import MAX_HEADER_BYTES, MAX_TENSORS, Malformed, read_header

FUZZ = settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])


def raw(header: Any, data: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def entry(shape: list[int], start: int, stop: int, dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, stop]}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "model.safetensors"


@pytest.fixture
def good(file: Path) -> bytes:
    tensors = {
        "a": torch.arange(6.0).reshape(2, 3),
        "b": torch.ones(5, dtype=torch.bfloat16),
        "none": torch.empty(0, 4),
        "steps": torch.tensor(3),
    }
    save_file(tensors, file, metadata={"format": "pt"})
    return file.read_bytes()


def test_a_good_file_is_read(file: Path, good: bytes) -> None:
    header = read_header(file)
    assert {t.name: (t.shape, t.dtype) for t in header.tensors} == {
        "a": ((2, 3), "F32"),
        "b": ((5,), "BF16"),
        "none": ((0, 4), "F32"),
        "steps": ((), "I64"),
    }
    assert header.metadata == {"format": "pt"}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "0 bytes"),
        (b"\0\0\0", "3 bytes"),
        (bytes(64), "damaged header"),
        (raw({}, length=1000), "ends within its header"),
        (raw({}, length=2**60), "more than 16777216 is refused"),
        (raw(b"[1]"), "no JSON object"),
        (raw(b"[" * 20_000), "damaged header"),
        (raw(b"\xff\xfe"), "damaged header"),
        (raw({"a": entry([2], 0, 8)}, bytes(7)), "is truncated"),
        (raw({"a": entry([2], 0, 8)}, bytes(9)), "bytes behind its last tensor"),
        (raw({"a": entry([3], 0, 8)}, bytes(8)), "not what shape"),
        (raw({"a": entry([2**62, 2**62], 0, 8)}, bytes(8)), "not what shape"),
        (raw({"a": entry([-2, -1], 0, 8)}, bytes(8)), "wrongly"),
        (raw({"a": entry([2], 8, 0)}, bytes(8)), "not what shape"),
        (raw({"a": entry([2], 4, 12)}, bytes(12)), "a gap or an overlap"),
        (raw({"a": entry([2], 0, 8), "b": entry([2], 4, 12)}, bytes(12)), "gap or an overlap"),
        (raw({"a": entry([2], 0, 8, "F31")}, bytes(8)), "wrongly"),
        (raw({"a": {"dtype": "F32", "shape": [2]}}, bytes(8)), "wrongly"),
        (raw({"a": entry([True], 0, 4)}, bytes(4)), "wrongly"),
        (raw({"a": entry([2], 0, 8) | {"more": 1}}, bytes(8)), "wrongly"),
        (raw({"a": 7}), "wrongly"),
        (raw({"__metadata__": {"format": 1}}), "metadata"),
        (raw(b'{"a":{},"a":{}}'), "'a' stands there twice"),
        (b"\x80\x02}q\x00." + bytes(100), "is a pickle"),
        (b"PK\x03\x04" + bytes(100), "is a pickle"),
    ],
)
def test_a_bad_file_is_refused_with_its_reason(file: Path, content: bytes, reason: str) -> None:
    file.write_bytes(content)
    with pytest.raises(Malformed, match=reason):
        read_header(file)


def test_a_huge_header_is_refused_at_once(file: Path) -> None:
    with file.open("wb") as opened:
        opened.write((57 * 2**20).to_bytes(8, "little"))
        opened.truncate(58 * 2**20)
    start = time.perf_counter()
    with pytest.raises(Malformed, match=str(MAX_HEADER_BYTES)):
        read_header(file)
    assert time.perf_counter() - start < 0.05


def test_too_many_tensors_are_refused(file: Path) -> None:
    file.write_bytes(raw({f"t{n}": entry([0], 0, 0) for n in range(MAX_TENSORS + 1)}))
    with pytest.raises(Malformed, match="20001 tensors"):
        read_header(file)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Malformed, match="regular file"):
        read_header(tmp_path)


def agrees_with_the_library(file: Path, content: bytes) -> None:
    """What we accept, the library that maps the data accepts, and sees the same."""
    file.write_bytes(content)
    try:
        header = read_header(file)
    except Malformed:
        return
    with safe_open(file, framework="pt") as opened:
        assert set(opened.keys()) == {tensor.name for tensor in header.tensors}
        for tensor in header.tensors:
            assert tuple(opened.get_slice(tensor.name).get_shape()) == tensor.shape


@FUZZ
@given(content=st.binary(max_size=200))
def test_noise_never_crashes_the_reader(file: Path, content: bytes) -> None:
    agrees_with_the_library(file, content)
    agrees_with_the_library(file, raw(content))


@FUZZ
@given(st.data())
def test_a_damaged_file_is_refused_or_still_sound(file: Path, good: bytes, data: Any) -> None:
    content = bytearray(good)
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(0, len(content) - 1))
        content[position] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(content)))
    agrees_with_the_library(file, bytes(content))
    agrees_with_the_library(file, bytes(content[:cut]))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 20) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)
entries = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["F32", "BF16", "I64", "F4", "X"]) | json_values,
        "shape": st.lists(st.integers(0, 4), max_size=3) | json_values,
        "data_offsets": st.lists(st.integers(0, 40), min_size=2, max_size=2) | json_values,
    }
)


@FUZZ
@given(st.dictionaries(st.text(max_size=4), entries | json_values, max_size=3), st.integers(0, 40))
def test_any_header_is_judged_as_the_library_would(
    file: Path, header: dict[str, Any], size: int
) -> None:
    agrees_with_the_library(file, raw(header, bytes(size)))


def test_the_fuzz_would_notice_a_lenient_reader(file: Path, good: bytes) -> None:
    file.write_bytes(good[:-1])
    with pytest.raises(SafetensorError), safe_open(file, framework="pt"):
        pass
