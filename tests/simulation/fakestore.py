"""The store's functions once more, in Python: what they do with values, and what they refuse.

``test_fakestore`` holds it equal to the function library in a real server. Every call that
changed something is kept, so that the state can be set back to any older one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from streams.store.calls import NUMBER_MAX, Batch, Meta
from streams.store.errors import error_for
from streams.store.keys import bucket_of

_TOPIC = re.compile(r"[A-Za-z0-9._-]{1,249}", re.ASCII)
_FIELDS_MAX = 2000


def is_count(number: int) -> bool:
    """Whether the functions take a number: from 0 to 2^53."""
    return 0 <= number <= NUMBER_MAX


@dataclass
class Held:
    """One partition in the store."""

    meta: dict[str, str] = field(default_factory=dict)
    docs: dict[tuple[bytes, str], bytes] = field(default_factory=dict)
    due: dict[bytes, int] = field(default_factory=dict)
    outbox: dict[int, bytes] = field(default_factory=dict)
    last_entry: int = 0

    def as_meta(self) -> Meta:
        """What a claim answers."""
        meta = self.meta

        def by_topic(kind: str) -> dict[str, int]:
            return {name[2:]: int(text) for name, text in meta.items() if name.startswith(kind)}

        return Meta(
            token=meta["token"],
            epoch=int(meta["epoch"]),
            generation=int(meta["generation"]),
            schema=int(meta["schema"]),
            partitions=int(meta["partitions"]),
            book=meta.get("book", ""),
            number=int(meta["n"]),
            offsets=by_topic("o:"),
            trimmed=by_topic("t:"),
        )


class FakeStore:
    """All partitions. Methods answer at once; ``tests.simulation.processes`` adds the time."""

    def __init__(self, compare_token: bool = True, compare_offsets: bool = True) -> None:
        """The two switches take a comparison out, to prove that its absence is noticed."""
        self._compare_token = compare_token
        self._compare_offsets = compare_offsets
        self.partitions: dict[int, Held] = {}
        self.trials: dict[int, bytes] = {}
        self._history: list[tuple[Callable[..., Any], tuple[Any, ...]]] = []

    def held(self, partition: int) -> Held:
        """A partition's state; an empty one where nothing was stored."""
        return self.partitions.setdefault(partition, Held())

    @property
    def calls(self) -> int:
        """How many calls have changed something."""
        return len(self._history)

    def set_back(self, calls: int) -> None:
        """Become what the first ``calls`` calls had made of an empty store."""
        history, self._history = self._history[:calls], []
        self.partitions = {}
        for call, args in history:
            call(*args)

    # -- functions that change something ---------------------------------------------------

    def claim(
        self, partition: int, token: str, generation: int, partitions: int, schema: int
    ) -> Meta:
        """As ``tsuide_1_claim``."""
        if not 1 <= len(token.encode()) <= 64 or not is_count(generation):
            raise error_for("BAD_ARGUMENT")
        if not is_count(partitions) or partitions < 1 or not is_count(schema):
            raise error_for("BAD_ARGUMENT")
        held = self.held(partition)
        meta = held.meta
        if "schema" in meta and int(meta["schema"]) > schema:
            raise error_for("SCHEMA_NEWER")
        if "partitions" in meta and meta["partitions"] != str(partitions):
            raise error_for("PARTITION_COUNT")
        meta |= {
            "token": token,
            "epoch": str(int(meta.get("epoch", "0")) + 1),
            "generation": str(generation),
            "partitions": str(partitions),
            "schema": str(schema),
            "n": meta.get("n", "1"),
        }
        self._history.append((self.claim, (partition, token, generation, partitions, schema)))
        return held.as_meta()

    def apply(self, partition: int, batch: Batch) -> None:
        """As ``tsuide_1_apply``."""
        held = self.held(partition)
        self._check(held, batch)
        if batch.outbox:
            if batch.number <= held.last_entry:
                raise error_for("OUTBOX_ORDER")
            held.outbox[batch.number] = batch.outbox
            held.last_entry = batch.number
        if batch.trim_to is not None:
            _trim(held, batch.trim_to)
        for place, packed in batch.docs.items():
            if packed:
                held.docs[place] = packed
            else:
                held.docs.pop(place, None)
        for customer, due_ms in batch.due.items():
            if due_ms is None:
                held.due.pop(customer, None)
            else:
                held.due[customer] = due_ms
        meta = held.meta
        meta |= {f"o:{topic}": str(new) for topic, (_, new) in batch.offsets.items()}
        meta |= {f"t:{topic}": str(offset) for topic, offset in batch.trimmed.items()}
        if batch.book:
            meta["book"] = batch.book
        meta["n"] = str(batch.number + 1)
        self._history.append((self.apply, (partition, batch)))

    def _check(self, held: Held, batch: Batch) -> None:
        if not 1 <= batch.number < NUMBER_MAX or len(batch.book.encode()) > 128:
            raise error_for("BAD_ARGUMENT")
        if batch.trim_to is not None and not 0 <= batch.trim_to < batch.number:
            raise error_for("BAD_ARGUMENT")
        for topic, (old, new) in batch.offsets.items():
            if not _TOPIC.fullmatch(topic) or not is_count(new):
                raise error_for("BAD_ARGUMENT")
            if old is not None and not (is_count(old) and old <= new):
                raise error_for("BAD_ARGUMENT")
        if len(batch.offsets) + 2 > _FIELDS_MAX:
            raise error_for("BAD_ARGUMENT")
        meta = held.meta
        if self._compare_token and meta.get("token") != batch.token:
            raise error_for("FENCED")
        expected = {"n": str(batch.number)}
        for topic, (old, _) in batch.offsets.items():
            expected[f"o:{topic}"] = "" if old is None else str(old)
        if self._compare_offsets and any(meta.get(k, "") != v for k, v in expected.items()):
            raise error_for("OFFSET_MISMATCH")
        _check_trimmed(batch.trimmed)
        if not all(customer for customer, _ in batch.docs):
            raise error_for("BAD_ARGUMENT")
        for customer, due_ms in batch.due.items():
            if not customer or (due_ms is not None and not is_count(due_ms)):
                raise error_for("BAD_ARGUMENT")

    def trim(self, partition: int, token: str, up_to: int, trimmed: Mapping[str, int]) -> None:
        """As ``tsuide_1_trim``."""
        if not is_count(up_to):
            raise error_for("BAD_ARGUMENT")
        _check_trimmed(trimmed)
        held = self.held(partition)
        if held.meta.get("token") != token and (self._compare_token or not held.meta):
            raise error_for("FENCED")
        if int(held.meta["n"]) <= up_to and self._compare_offsets:
            raise error_for("OFFSET_MISMATCH")
        _trim(held, up_to)
        held.meta |= {f"t:{topic}": str(offset) for topic, offset in trimmed.items()}
        self._history.append((self.trim, (partition, token, up_to, dict(trimmed))))

    # -- looking ---------------------------------------------------------------------------

    def meta(self, partition: int) -> Meta | None:
        """As ``Store.meta``."""
        held = self.held(partition)
        return held.as_meta() if held.meta else None

    def trial(self, partition: int) -> bytes | None:
        """As ``Store.trial``."""
        return self.trials.get(partition)

    def set_trial(self, partition: int, trial: bytes | None) -> None:
        """As ``Store.set_trial``."""
        if trial:
            self.trials[partition] = trial
        else:
            self.trials.pop(partition, None)

    def load(
        self, partition: int, customers: Iterable[bytes], parts: str
    ) -> dict[bytes, dict[str, bytes]]:
        """As ``Store.load``."""
        docs = self.held(partition).docs
        return {
            customer: {part: docs[customer, part] for part in parts if (customer, part) in docs}
            for customer in customers
        }

    def page(
        self, partition: int, bucket: int, letter: str, cursor: int, count: int
    ) -> tuple[int, list[tuple[bytes, bytes]]]:
        """As ``Store.page``, in one page."""
        docs = self.held(partition).docs.items()
        return 0, [
            (customer, value)
            for (customer, part), value in docs
            if part == letter and bucket_of(customer) == bucket
        ]

    def due(self, partition: int, up_to_ms: int, limit: int) -> list[tuple[bytes, int]]:
        """As ``Store.due``."""
        found = [(c, at) for c, at in self.held(partition).due.items() if at <= up_to_ms]
        return sorted(found, key=lambda pair: (pair[1], pair[0]))[:limit]

    def next_due(self, partition: int) -> int | None:
        """As ``Store.next_due``."""
        return min(self.held(partition).due.values(), default=None)

    def pending(self, partition: int) -> int:
        """As ``Store.pending``."""
        return len(self.held(partition).due)

    def outbox(
        self, partition: int, after: int = 0, limit: int = 1_000_000
    ) -> list[tuple[int, bytes]]:
        """As ``Store.outbox``."""
        entries = sorted(self.held(partition).outbox.items())
        return [entry for entry in entries if entry[0] > after][:limit]

    def outbox_size(self, partition: int) -> int:
        """As ``Store.outbox_size``."""
        return len(self.held(partition).outbox)


def _check_trimmed(trimmed: Mapping[str, int]) -> None:
    for topic, offset in trimmed.items():
        if not _TOPIC.fullmatch(topic) or not is_count(offset):
            raise error_for("BAD_ARGUMENT")


def _trim(held: Held, up_to: int) -> None:
    for number in [number for number in held.outbox if number <= up_to]:
        del held.outbox[number]
