"""The errors a hospital can meet, each with the fixed code that may leave it.

    ValueError
    ├── DataError      a data file is missing, damaged, or too small for the tasks asked for
    └── NodeError      the hospital's machine lacks what its node config names, or should name

The text of an error stays at the hospital; only ``code`` is ever put into a message.
"""

from __future__ import annotations


class DataError(ValueError):
    """A data file is missing, damaged or too small; the text names the file and the way out."""

    code = "data-refused"


class NodeError(ValueError):
    """The node config and the machine do not fit; the text names the key and the way out.

    ``code`` is one of ``privacy.release.REFUSALS``.
    """

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code
