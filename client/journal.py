"""The hospital's own record of what it answered: a file that only grows, a line an answer.

The line is on the disk before the answer leaves. Where it cannot be written, nothing leaves.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from metaward.client.errors import NodeError
from metaward.files import append_line
from metaward.options import compact
from metaward.privacy import Answer, Refusal
from metaward.privacy.wire import Request, content_digest, digest


def note_answer(path: Path, duty: str, request: Request | None, answer: Answer) -> None:
    """Append what was asked and what is answered, without any value of a record.

    ``NodeError`` where the file cannot be written.
    """
    line = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "duty": duty,
        **(_asked(request) if request is not None else {}),
        **_answered(answer),
    }
    try:
        path.touch(mode=0o600)  # nobody else's account needs to read it, whatever the umask
        append_line(path, compact(line))
    except OSError as error:
        text = f"audit-log: {path}: {error.strerror or error}; no answer leaves without its line"
        raise NodeError("audit-unwritable", text) from error


def _asked(request: Request) -> dict[str, object]:
    return {"run": request.run, "round": request.round, "request": digest(request)}


def _answered(answer: Answer) -> dict[str, object]:
    """The kind of answer, the hash of its content, and the ledger's row that holds it."""
    said: dict[str, object] = {"answer": type(answer).__name__.lower()}
    if isinstance(answer, Refusal):
        return said | {"code": answer.code}
    mark = getattr(answer, "mark", None)
    return said | {"content": content_digest(answer)} | (vars(mark) if mark is not None else {})
