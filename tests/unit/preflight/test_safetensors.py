"""The header parser: whatever the bytes are, a header that accounts for every byte or a CheckpointError."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError, deserialize
from safetensors.numpy import save

from evalgate.errors import CheckpointError
from evalgate.preflight.files import open_folder
from evalgate.preflight.safetensors import BITS, MAX_HEADER, parse_header, read_header
from tests.faults.tiny_checkpoint import Room, floats, header_of, safetensors_file, with_header

SMALL = {"a": floats(2, 3), "b": floats(1)}
VALID = safetensors_file(SMALL)


def accepted(data: bytes, size: int) -> bool:
    try:
        parse_header(data, size, "x")
    except CheckpointError:
        return False
    return True


@given(st.binary(max_size=400), st.integers(0, 1 << 62))
def test_random_bytes_raise_nothing_else(data: bytes, size: int) -> None:
    """No header of random bytes raises anything but CheckpointError."""
    accepted(data, size)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(sorted(BITS)),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)
entries = st.fixed_dictionaries({"dtype": json_values, "shape": json_values, "data_offsets": json_values})


@given(st.dictionaries(st.text(max_size=5) | st.just("__metadata__"), json_values | entries, max_size=4))
def test_json_of_any_shape_raises_nothing_else(header: dict[str, Any]) -> None:
    """No JSON with the right keys and the wrong values raises anything but CheckpointError."""
    accepted(json.dumps(header).encode(), 8)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(st.data())
def test_a_changed_file_is_accepted_only_where_the_reference_accepts_it(tmp_path: Path, data: st.DataObject) -> None:
    """Of all files with one changed, cut or added byte, none passes here that the safetensors library refuses."""
    content = bytearray(VALID)
    at = data.draw(st.integers(0, len(content) - 1))
    how = data.draw(st.sampled_from(["flip", "cut", "add"]))
    if how == "flip":
        content[at] ^= data.draw(st.integers(1, 255))
    elif how == "cut":
        del content[at]
    else:
        content.insert(at, data.draw(st.integers(0, 255)))
    (tmp_path / "x.safetensors").write_bytes(content)
    try:
        read_header(open_folder(tmp_path), "x.safetensors")
    except CheckpointError:
        return
    try:
        deserialize(bytes(content))  # type: ignore[no-untyped-call]
    except SafetensorError as error:
        pytest.fail(f"accepted what the library refuses: {error}")


@given(
    st.dictionaries(
        st.text(min_size=1, max_size=8).filter(lambda name: name != "__metadata__"),
        st.tuples(
            st.sampled_from(["float64", "float32", "float16", "int64", "uint8"]),
            st.lists(st.integers(0, 4), max_size=3),
        ),
        min_size=1,
        max_size=6,
    )
)
def test_what_the_library_writes_is_read(tensors: dict[str, tuple[str, list[int]]]) -> None:
    """Names, shapes and sizes of a file that the safetensors library wrote come back."""
    arrays = {name: np.ones(shape, dtype=dtype) for name, (dtype, shape) in tensors.items()}
    data = save(arrays)
    length = int.from_bytes(data[:8], "little")
    found = parse_header(data[8 : 8 + length], len(data) - 8 - length, "x")
    assert {name: tensor.shape for name, tensor in found.items()} == {n: tuple(a.shape) for n, a in arrays.items()}
    assert {name: tensor.end - tensor.begin for name, tensor in found.items()} == {
        n: a.nbytes for n, a in arrays.items()
    }


def test_tensors_come_in_the_order_of_their_bytes() -> None:
    """The scan reads the file once from front to back, so order in the header must not matter."""
    header = {name: header_of(SMALL)[name] for name in ("b", "a")}
    assert list(parse_header(json.dumps(header).encode(), 28, "x")) == ["a", "b"]


@pytest.mark.parametrize(("dtype", "count"), [("F4", 2), ("F6_E2M3", 4), ("C64", 1)])
def test_elements_of_odd_width_are_counted_in_bits(dtype: str, count: int) -> None:
    """Two 4-bit elements make a byte; one of them makes none and is refused."""
    size = count * BITS[dtype] // 8
    entry = {"dtype": dtype, "shape": [count], "data_offsets": [0, size]}
    assert parse_header(json.dumps({"a": entry}).encode(), size, "x")["a"].end == size
    if dtype == "F4":
        assert not accepted(json.dumps({"a": entry | {"shape": [1], "data_offsets": [0, 0]}}).encode(), 0)


def test_a_header_above_the_limit_is_not_read(room: Room) -> None:
    """A sparse file of a huge declared header is refused by its length alone."""
    path = room.full / "model.safetensors"
    path.write_bytes(with_header(b"", b"")[:0] + (MAX_HEADER + 1).to_bytes(8, "little"))
    with path.open("r+b") as file:
        file.truncate(MAX_HEADER + 100)
    with pytest.raises(CheckpointError, match="33,554,433"):
        read_header(open_folder(room.full), "model.safetensors")
