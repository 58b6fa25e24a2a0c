"""The errors of a hospital's data and machine, each with the fixed code that may leave it.

The text of an error stays at the hospital; only ``code`` is ever put into a message.
"""

from __future__ import annotations

from metaward.errors import InputError


class DataError(InputError):
    """A data file is missing, damaged or too small; the text names the file and the way out."""

    code = "data-refused"


class NodeError(InputError):
    """The node config and the machine do not agree; the text names the key and the way out.

    ``code`` is one of ``privacy.release.REFUSALS``.
    """

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code
