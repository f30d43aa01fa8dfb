"""Random calls: the functions in the server do what a plain dictionary would."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streams.embedded import EmbeddedStore
from streams.store import Batch, Fenced, OffsetMismatch, Store

TOPICS = ["cart", "purchase"]
CUSTOMERS = [b"a", b"b", b"{p1}", b"\x00", "顧客".encode(), b"n"]
PARTS = "no"


@dataclass
class Model:
    """A partition as a plain value."""

    token: str = ""
    epoch: int = 0
    number: int = 1
    book: str = ""
    offsets: dict[str, int] = field(default_factory=dict)
    trimmed: dict[str, int] = field(default_factory=dict)
    docs: dict[tuple[bytes, str], bytes] = field(default_factory=dict)
    due: dict[bytes, int] = field(default_factory=dict)
    outbox: dict[int, bytes] = field(default_factory=dict)

    def claim(self, token: str) -> None:
        self.token = token
        self.epoch += 1

    def apply(self, batch: Batch) -> str:
        if batch.token != self.token:
            return "Fenced"
        expected = {topic: pair[0] for topic, pair in batch.offsets.items()}
        if batch.number != self.number or expected != {t: self.offsets.get(t) for t in expected}:
            return "OffsetMismatch"
        for place, value in batch.docs.items():
            self.docs[place] = value
        self.docs = {place: value for place, value in self.docs.items() if value}
        for customer, due_ms in batch.due.items():
            self.due.pop(customer, None)
            if due_ms is not None:
                self.due[customer] = due_ms
        if batch.outbox:
            self.outbox[batch.number] = batch.outbox
        self._trim(batch.trim_to, dict(batch.trimmed))
        self.offsets |= {topic: pair[1] for topic, pair in batch.offsets.items()}
        self.book = batch.book or self.book
        self.number += 1
        return ""

    def trim(self, token: str, up_to: int, trimmed: dict[str, int]) -> str:
        if token != self.token:
            return "Fenced"
        if up_to >= self.number:
            return "OffsetMismatch"
        self._trim(up_to, trimmed)
        return ""

    def _trim(self, up_to: int | None, trimmed: dict[str, int]) -> None:
        self.outbox = {n: blob for n, blob in self.outbox.items() if up_to is None or n > up_to}
        self.trimmed |= trimmed


@st.composite
def calls(draw: st.DrawFn) -> tuple[str, dict[str, object]]:
    """One call as its name and what it changes of a valid one."""
    name = draw(st.sampled_from(["apply"] * 6 + ["claim", "trim", "stale", "elsewhere", "again"]))
    docs = st.dictionaries(
        st.tuples(st.sampled_from(CUSTOMERS), st.sampled_from(PARTS)),
        st.binary(max_size=12),
        max_size=8,
    )
    due = st.dictionaries(st.sampled_from(CUSTOMERS), st.none() | st.integers(0, 2**53), max_size=6)
    return name, {
        "docs": draw(docs),
        "due": draw(due),
        "outbox": draw(st.binary(max_size=20)),
        "book": draw(st.sampled_from(["", "x", "y"])),
        "steps": draw(st.lists(st.integers(0, 3), min_size=2, max_size=2)),
        "behind": draw(st.none() | st.integers(1, 4)),
        "trimmed": draw(
            st.dictionaries(st.sampled_from(["offers", "decisions"]), st.integers(0, 9))
        ),
    }


def make(model: Model, name: str, what: dict[str, object]) -> Batch:
    """The batch that a worker of this model would send, or one that is off."""
    steps, behind = what["steps"], what["behind"]
    assert isinstance(steps, list)
    offsets: dict[str, tuple[int | None, int]] = {}
    for topic, step in zip(TOPICS, steps, strict=True):
        known = model.offsets.get(topic)
        offsets[topic] = (known, (known or 0) + step)
    if name == "elsewhere":
        offsets["cart"] = (offsets["cart"][1] + 1, offsets["cart"][1] + 2)
    number = model.number - (name == "again")
    trim_to = None if not isinstance(behind, int) or number <= behind else number - behind
    return Batch(
        token="stale" if name == "stale" else model.token,
        number=max(1, number),
        offsets=offsets,
        docs=what["docs"],  # type: ignore[arg-type]
        due=what["due"],  # type: ignore[arg-type]
        outbox=what["outbox"],  # type: ignore[arg-type]
        book=what["book"],  # type: ignore[arg-type]
        trim_to=trim_to,
        trimmed=what["trimmed"],  # type: ignore[arg-type]
    )


async def answer(store: Store, partition: int, batch: Batch) -> str:
    try:
        await store.apply(partition, batch)
    except (Fenced, OffsetMismatch) as refused:
        return type(refused).__name__
    return ""


async def compare(store: Store, partition: int, model: Model) -> None:
    meta = await store.meta(partition)
    assert meta is not None
    assert (meta.token, meta.epoch, meta.number) == (model.token, model.epoch, model.number)
    assert (meta.offsets, meta.trimmed, meta.book) == (model.offsets, model.trimmed, model.book)
    loaded = await store.load(partition, CUSTOMERS, PARTS)
    docs = {(c, part): value for c, parts in loaded.items() for part, value in parts.items()}
    assert docs == model.docs
    in_order = sorted(model.due.items(), key=lambda pair: (pair[1], pair[0]))
    assert await store.due(partition, 2**53, 99) == in_order
    assert await store.pending(partition) == len(model.due)
    assert await store.next_due(partition) == (in_order[0][1] if in_order else None)
    assert await store.outbox(partition) == sorted(model.outbox.items())


partitions = iter(range(1_000_000))


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(history=st.lists(calls(), max_size=25))
def test_the_store_does_what_a_plain_model_does(
    server: EmbeddedStore, history: list[tuple[str, dict[str, object]]]
) -> None:
    async def work() -> None:
        store = await Store.connect(server.url)
        await store.ensure_functions()
        model, partition = Model(), next(partitions)
        try:
            for turn, (name, what) in enumerate([("claim", {}), *history]):
                if name == "claim":
                    model.claim(f"token-{turn}")
                    await store.claim(partition, model.token, turn, 8, 1)
                elif name == "trim":
                    trimmed: dict[str, int] = what["trimmed"]  # type: ignore[assignment]
                    up_to = max(0, model.number - int(what["behind"] or 0))  # type: ignore[call-overload]
                    expected = model.trim(model.token, up_to, trimmed)
                    try:
                        await store.trim(partition, model.token, up_to, trimmed)
                        assert expected == ""
                    except OffsetMismatch:
                        assert expected == "OffsetMismatch"
                else:
                    batch = make(model, name, what)
                    expected = model.apply(batch)
                    assert await answer(store, partition, batch) == expected
                await compare(store, partition, model)
        finally:
            await store.close()

    asyncio.run(work())
