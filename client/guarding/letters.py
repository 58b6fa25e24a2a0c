"""Records as bytes and back, for the way between the SuperNode's app and the guard.

The bytes are those in which Flower itself sends records. What arrives may come from code that the
server shipped, so anything but records is refused.
"""

from __future__ import annotations

from flwr.app import RecordDict
from flwr.common.serde import recorddict_from_proto, recorddict_to_proto
from flwr.proto.recorddict_pb2 import RecordDict as Letter
from google.protobuf.message import DecodeError

Records = RecordDict


def packed(records: Records) -> bytes:
    """The records as bytes."""
    return bytes(recorddict_to_proto(records).SerializeToString())


def unpacked(letter: bytes) -> Records:
    """The records in these bytes; ``ValueError`` where they hold none."""
    read = Letter()
    try:
        read.ParseFromString(letter)
        return recorddict_from_proto(read)
    except (DecodeError, KeyError, TypeError, ValueError) as error:
        raise ValueError("these bytes are no records") from error
