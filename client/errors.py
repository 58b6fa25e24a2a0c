"""The errors a hospital can meet, each with the fixed code that may leave it.

    ValueError
    └── DataError      a data file is missing, damaged, or too small for the tasks asked for

The text of an error stays at the hospital; only ``code`` is ever put into a message.
"""

from __future__ import annotations


class DataError(ValueError):
    """A data file is missing, damaged or too small; the text names the file and the way out."""

    code = "data-refused"
