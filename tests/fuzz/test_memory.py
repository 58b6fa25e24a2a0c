"""What a learner keeps at a hospital: damaged versions, and versions whose digest agrees."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import torch
from hypothesis import strategies as st

from metaward.client.memory import PATTERN, Memory
from tests.fuzz.damage import TREES, altered, damaged
from tests.fuzz.harness import Counted, fresh, fuzz, inputs
from tests.fuzz.tensors import safetensors


@inputs(30, 500)
def test_versions(number: int, counted: Counted, tmp_path: Path) -> None:
    memory = Memory(tmp_path, 100, lambda stub: len(stub.reply) > 0)
    memory.keep(3, {"head": torch.ones(3)}, "request", b"reply")
    (path,) = tmp_path.glob(PATTERN)
    good = path.read_bytes()
    _, head, vectors = good.split(b"\n", 2)

    def read(content: bytes) -> None:
        fresh(path, content)
        kept = memory.recall(4)
        assert all(isinstance(vector, torch.Tensor) for vector in kept.values())
        memory.recall(3)

    def agreeing(parts: tuple[bytes, bytes]) -> bytes:
        rest = b"\n".join(parts)
        return hashlib.sha256(rest).hexdigest().encode() + b"\n" + rest

    trees = (altered(json.loads(head)) | TREES).map(json.dumps).map(str.encode)
    forged = st.tuples(st.just(head) | trees, st.just(vectors) | safetensors(vectors)).map(agreeing)
    known = [agreeing((text, vectors)) for text in (b"{}", b"3", b"[" * 9999)]
    fuzz(number, damaged(good) | forged, read, counted, [*known, agreeing((head, b""))])
