"""How many inputs a test tried goes into its report, which the end of the run adds up."""

import pytest

from tests.fuzz.harness import Counted


@pytest.fixture
def counted(record_property: Counted) -> Counted:
    """Where a test writes down how many inputs it tried, and how many could be read."""
    return record_property
