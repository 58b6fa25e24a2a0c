"""One steady way to run tests: one torch thread; property tests without time limits, the same
examples every time."""

import torch
from hypothesis import settings

torch.set_num_threads(1)
settings.register_profile("steady", deadline=None, derandomize=True, database=None)
settings.load_profile("steady")
