"""What a snapshot holds of customers who were erased since it was taken: it is not put back."""

from __future__ import annotations

from typing import Any

import redis

from streams.erasure import Ledger, keep_out
from streams.outbox import pack, unpack
from streams.store.keys import PartitionKeys, partition_keys
from triggers.customer import PART_LETTERS

_PAGE = 1_000


def leave_out(client: redis.Redis, number: int, prefix: str, ledger: Ledger) -> int:
    """Delete the documents and the unsent records of whoever was erased; how many they are.

    Entries of the outbox keep their numbers, also where nothing is left in them.
    """
    keys = partition_keys(number, prefix)
    _leave_out_records(client, keys.outbox, number, ledger)
    return _leave_out_documents(client, keys, ledger)


def _leave_out_documents(client: redis.Redis, keys: PartitionKeys, ledger: Ledger) -> int:
    gone = set()
    for key in keys.customers:
        fields: dict[bytes, set[bytes]] = {}
        for field in client.hscan_iter(key, count=_PAGE, no_values=True):
            if field[:1].decode() in PART_LETTERS:
                fields.setdefault(field[1:], set()).add(field)
        for raw_id, found in fields.items():
            entry = ledger.of(raw_id.decode(errors="replace"))
            if entry is not None and entry.gone:
                client.hdel(key, *found)
                client.zrem(keys.due, raw_id)
                gone.add(raw_id)
    return len(gone)


def _leave_out_records(client: redis.Redis, key: bytes, number: int, ledger: Ledger) -> None:
    entries: Any = client.xrange(key)
    unsent = [unpack(fields[b"r"]) for _, fields in entries]
    ledger.begin(number)
    keep_out(ledger, number, unsent)
    # A stream takes no entry before its last one, so it is written anew.
    with client.pipeline(transaction=True) as transaction:
        transaction.delete(key)
        for (entry_id, _), records in zip(entries, unsent, strict=True):
            transaction.xadd(key, {b"r": pack(records)}, id=entry_id)
        if entries:
            transaction.execute()
