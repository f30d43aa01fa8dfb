"""What was decided and waits to be sent, and may not leave any more, or not as it is.

All of it is told by the number of the outbox's entry before which it holds, so that what is decided
later leaves as usual.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from streams.proofs import without_proof
from streams.subjects import whose
from streams.topics import EVIDENCE

if TYPE_CHECKING:
    from streams.outbox import Outgoing


class Recalls:
    """The recalls of one partition's outbox."""

    def __init__(self) -> None:
        self._customers: dict[str, int] = {}
        self._offers: dict[str, int] = {}
        self._proofs: dict[bytes, int] = {}

    def customer(self, customer_id: str, number: int) -> None:
        """Nothing about a customer leaves: they were erased, or objected."""
        self._customers[customer_id] = number

    def offer(self, record_id: str, number: int) -> None:
        """An offer was held; it leaves with the entry ``number`` and no copy of before does."""
        self._offers[record_id] = number

    def proof(self, digest: bytes, number: int) -> None:
        """Evidence of consent leaves without its proof: its customer is gone, or was since."""
        self._proofs[digest] = number

    def left(self, number: int, records: list[Outgoing]) -> list[Outgoing]:
        """What of an entry's records may still leave, as it may leave."""
        if self._customers:
            records = [one for one in records if not self._is_gone(number, one)]
        if self._offers:
            records = [one for one in records if number >= self._offers.get(one.id, 0)]
        if self._proofs:
            records = [self._unproven(number, one) for one in records]
        return records

    def done(self, number: int) -> None:
        """Forget what concerns entries up to ``number`` only: they have left."""
        if self._customers or self._offers or self._proofs:
            self._customers = {name: n for name, n in self._customers.items() if n > number}
            self._offers = {name: n for name, n in self._offers.items() if n > number}
            self._proofs = {name: n for name, n in self._proofs.items() if n > number}

    def _is_gone(self, number: int, record: Outgoing) -> bool:
        named = whose(record.topic, record.key, record.value)
        return any(number < self._customers.get(customer_id, 0) for customer_id in named)

    def _unproven(self, number: int, record: Outgoing) -> Outgoing:
        if record.topic != EVIDENCE or number >= self._proofs.get(record.key or b"", 0):
            return record
        return msgspec.structs.replace(record, value=without_proof(record.value))
