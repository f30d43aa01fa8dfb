"""Keeps partition n of all topics on one worker, and checks that it is so."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from faust.assignor.partition_assignor import PartitionAssignor as FaustPartitionAssignor
from faust.types import TP, AppT

__all__ = ["NotColocatedError", "PartitionAssignor", "colocation_fault"]


class NotColocatedError(RuntimeError):
    """The group gave us partition n of one topic but not of another."""


class PartitionAssignor(FaustPartitionAssignor):
    """Keeps partition n of all topics together; gives nobody a second copy.

    Faust uses its co-locating assignor only where `table_standby_replicas` is above 0, and would
    then hand each partition to a standby worker too.
    """

    def __init__(self, app: AppT, replicas: int = 0) -> None:
        super().__init__(app, replicas=0)


def colocation_fault(
    assigned: Iterable[TP], topics: Iterable[str], counts: Callable[[str], int | None]
) -> str | None:
    """Say why `assigned` does not hold the same partition numbers of each topic, if so."""
    numbers: dict[str, set[int]] = {topic: set() for topic in topics}
    for tp in assigned:
        numbers.setdefault(tp.topic, set()).add(tp.partition)
    if len({frozenset(some) for some in numbers.values()}) <= 1:
        return None
    shown = ", ".join(
        f"{topic} {sorted(some)} of {counts(topic) or 'no'} partitions"
        for topic, some in sorted(numbers.items())
    )
    return (
        "the same partition numbers of every topic must be on one worker, but this worker was "
        f"given {shown}; all topics must exist with equal partition counts, and all workers of "
        "the group must subscribe to the same topics"
    )
