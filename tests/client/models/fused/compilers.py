"""Whether this machine can build the kernel: only where it cannot, tests are skipped."""

import os
import shutil

import pytest

from metaward.client.models.fused.building import COMPILERS

NAMES = (os.environ["CXX"],) if os.environ.get("CXX") else COMPILERS
needs_compiler = pytest.mark.skipif(
    not any(shutil.which(name) for name in NAMES), reason="this machine has no C++ compiler"
)
