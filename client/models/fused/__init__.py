"""Gradients of the Conv family by code of its own, compiled where it is wanted.

``kernel.cpp.md`` and ``layers.cpp.md`` are C++, ``building`` compiles and keeps them, ``kernel``
calls them. Without a compiler there is no kernel, and a reason why.
"""

from __future__ import annotations

from metaward.client.models.fused.building import NoKernel
from metaward.client.models.fused.kernel import FusedKernel, fused_kernel

__all__ = ["FusedKernel", "NoKernel", "fused_kernel"]
