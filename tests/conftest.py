"""One steady way to run property tests: no time limits, the same examples every time."""

from hypothesis import settings

settings.register_profile("steady", deadline=None, derandomize=True, database=None)
settings.load_profile("steady")
