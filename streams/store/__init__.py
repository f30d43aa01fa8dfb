"""The partitions' state in Redis: one atomic call moves a partition a step further."""

from streams.store.calls import Batch, Meta, new_token
from streams.store.errors import (
    Fenced,
    FunctionsMissing,
    OffsetMismatch,
    PartitionCountChanged,
    SchemaNewer,
    StoreError,
    StoreFull,
    StoreUnavailable,
)
from streams.store.server import Finding
from streams.store.store import Store

__all__ = [
    "Batch",
    "Fenced",
    "Finding",
    "FunctionsMissing",
    "Meta",
    "OffsetMismatch",
    "PartitionCountChanged",
    "SchemaNewer",
    "Store",
    "StoreError",
    "StoreFull",
    "StoreUnavailable",
    "new_token",
]
