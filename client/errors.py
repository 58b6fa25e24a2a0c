"""The errors of a hospital's data and machine, each with the fixed code that may leave it.

The text of an error stays at the hospital; only ``code`` is ever put into a message.
"""

from __future__ import annotations

import traceback

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


def one_line(text: str) -> str:
    """The text with control characters and line ends written out, as in ``\\x1b`` and ``\\n``.

    A server writes parts of the errors that its requests cause; no such part can look like an entry
    of the log of its own, or steer a terminal.
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def below_entry(text: str) -> str:
    """Lines that belong to an entry of a log: all but the first are indented."""
    first, *more = text.splitlines() or [""]
    return "\n".join([one_line(first), *("    " + one_line(line) for line in more)])


def present_traceback() -> str:
    """The traceback of the exception that is being handled, for a log."""
    return below_entry("failed\n" + traceback.format_exc())
