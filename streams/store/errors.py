"""What the store can answer instead of a result.

    StoreError                the store refused or failed; `code` is its error code
    ├── Fenced                the partition belongs to another worker: drop it
    ├── OffsetMismatch        the store stands elsewhere than we thought: claim again and re-seek
    ├── StoreFull             no memory left for writes: wait, nothing was written
    ├── StoreUnavailable      no answer: whether the call took effect is unknown, claim again
    ├── SchemaNewer           the documents were written by a later release
    ├── PartitionCountChanged the topics had another number of partitions
    └── FunctionsMissing      the function library is not loaded (an empty or restored server)

The texts are ours: a server's error text may hold a piece of a command, and so of an event.
"""

# ruff: noqa: N818 - the names say what happened; "Error" would not say more.
from __future__ import annotations


class StoreError(Exception):
    """The store refused or failed; nothing is said of what was in the call."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(f"{code}: {text}")
        self.code = code


class Fenced(StoreError):
    """Another worker claimed the partition; nothing was written."""


class OffsetMismatch(StoreError):
    """The stored offsets or call number are not the expected ones; nothing was written."""


class StoreFull(StoreError):
    """The server is at its memory limit; nothing was written."""


class StoreUnavailable(StoreError):
    """No answer arrived. The call may or may not have taken effect: claim and compare."""


class SchemaNewer(StoreError):
    """A later release wrote this partition; nothing was changed."""


class PartitionCountChanged(StoreError):
    """The topics' number of partitions is not the one that the partition was written under."""


class FunctionsMissing(StoreError):
    """The server does not know our functions, and we may not load them."""


_KNOWN: dict[str, tuple[type[StoreError], str]] = {
    "FENCED": (Fenced, "the partition was claimed by another worker"),
    "OFFSET_MISMATCH": (OffsetMismatch, "the stored position is not the expected one"),
    "OOM": (StoreFull, "the server is at its memory limit"),
    "SCHEMA_NEWER": (SchemaNewer, "the documents were written by a later release"),
    "PARTITION_COUNT": (
        PartitionCountChanged,
        "the documents were written under another number of partitions",
    ),
    "WRONGTYPE": (StoreError, "a key holds another type than ours: is the server shared?"),
    "NOT_FOUND": (FunctionsMissing, "the server does not have the function library"),
    "LOADING": (StoreUnavailable, "the server is loading its data"),
    "BUSY": (StoreUnavailable, "the server is busy with a script"),
    "MASTERDOWN": (StoreUnavailable, "the server has lost its primary"),
    "CLUSTERDOWN": (StoreUnavailable, "the cluster does not serve this slot"),
    "TRYAGAIN": (StoreUnavailable, "the cluster is moving this slot"),
    "READONLY": (StoreError, "the server is a replica"),
    "MISCONF": (StoreError, "the server cannot write to its disk"),
    "NOPERM": (StoreError, "the user may not run this command or reach this key"),
    "NOAUTH": (StoreError, "the server wants a password"),
    "WRONGPASS": (StoreError, "the server refuses the user or password"),
    "NOREPLICAS": (StoreError, "the server has too few replicas to accept writes"),
    "MOVED": (StoreError, "the partition lives on another node of the cluster"),
    "BAD_KEYS": (StoreError, "the call had the wrong keys"),
    "BAD_TYPE": (StoreError, "a key holds another type than ours: is the server shared?"),
    "BAD_ARGUMENT": (StoreError, "the call had an argument that the function does not take"),
    "OUTBOX_ORDER": (StoreError, "the outbox already holds a later number"),
}


def error_for(code: str) -> StoreError:
    """The error of a server's error code (the first word of its text)."""
    kind, text = _KNOWN.get(code, (StoreError, "the server refused the call"))
    return kind(code, text)
