"""Files of tensors: headers that say anything, metadata of any content, flipped bits."""

from __future__ import annotations

import json
import struct
from typing import Any

from hypothesis import strategies as st

from tests.fuzz.damage import LEAVES, altered, damaged

DTYPES = ["F32", "F64", "F16", "BF16", "F8_E4M3", "I64", "I8", "U8", "U16", "BOOL", "C64", "F4", ""]


def header_of(data: bytes) -> tuple[dict[str, Any], bytes]:
    """The header and the values of a file of tensors."""
    length = struct.unpack("<Q", data[:8])[0]
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def with_header(header: Any, values: bytes, length: int | None = None) -> bytes:
    """A file of tensors with any header."""
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + values


@st.composite
def safetensors(draw: st.DrawFn, good: bytes) -> bytes:
    """A file of tensors, damaged; or one whose header is another one."""
    if draw(st.booleans()):
        return draw(damaged(good))
    header, values = header_of(good)
    name = draw(st.sampled_from([*header]))
    how = draw(st.sampled_from(["dtype", "shape", "name", "tree", "about", "length", "values"]))
    if how == "dtype" and "dtype" in header[name]:
        header[name]["dtype"] = draw(st.sampled_from(DTYPES))
    elif how == "shape" and "shape" in header[name]:
        header[name]["shape"] = draw(st.lists(st.sampled_from([0, 1, 2, 3, 6, 2**40]), max_size=3))
    elif how == "name":
        header[draw(st.text(max_size=5))] = header.pop(name)
    elif how == "about":
        header["__metadata__"] = draw(st.dictionaries(st.text(max_size=5), LEAVES, max_size=3))
    elif how == "tree":
        header = draw(altered(header))
    elif how == "values":
        values = draw(st.binary(min_size=len(values), max_size=len(values)))
    length = draw(st.sampled_from([0, 2**20, 2**60])) if how == "length" else None
    return with_header(header, values, length)
