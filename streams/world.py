"""What all partitions of a worker share, and who is told what they do."""

from collections import Counter
from typing import TYPE_CHECKING, Protocol

from streams.clock import Clock
from streams.codec import Door
from streams.erasure import Ledger
from streams.outbox import Outgoing
from streams.store.store import Store
from triggers.book import Book
from triggers.catalog import Catalog
from triggers.judgement import Step

if TYPE_CHECKING:
    from streams.settings import Settings


class Observer(Protocol):
    """Counts what happens (``streams.observer``)."""

    def applied(
        self, types: Counter[tuple[str, str]], customers: int, out: Step, took_s: float
    ) -> None:
        """A batch was applied: its events by (topic, type), changed customers, what came of it."""
        ...

    def loaded(self, asked: int, missing: int) -> None:
        """Of so many customers asked for, so many came from the store."""
        ...

    def dead_letter(self, topic: str, reason: str) -> None:
        """A record was refused."""
        ...

    def expired(self, rule: str, reason: str) -> None:
        """An offer was not sent in time."""
        ...

    def sent(self, records: list[Outgoing], took_s: float) -> None:
        """Records of one topic were acknowledged."""
        ...

    def known_already(self, topic: str) -> None:
        """A record of the outbox lay in its topic already."""
        ...

    def claimed(self, count: int) -> None:
        """So many partitions were claimed."""
        ...

    def failed(self, code: str) -> None:
        """The store refused or failed with that code."""
        ...


class World:
    """What all partitions of a worker share. ``book`` is swapped between two batches."""

    def __init__(
        self,
        store: Store,
        door: Door,
        book: Book,
        catalog: Catalog,
        clock: Clock,
        observer: Observer,
        settings: "Settings",
        ledger: Ledger | None = None,
    ) -> None:
        self.store = store
        self.door = door
        self.book = book
        self.catalog = catalog
        self.clock = clock
        self.observer = observer
        self.settings = settings
        self.ledger = Ledger() if ledger is None else ledger
        self.owned = 1  # partitions of this worker, which share its memory

    @property
    def cache_share(self) -> int:
        """Customers that one partition may keep in memory."""
        return self.settings.cache_customers // self.owned

    @property
    def cache_share_bytes(self) -> int:
        """Bytes of packed documents that one partition may keep in memory."""
        return self.settings.cache_bytes // self.owned

    def use(self, book: Book) -> None:
        """Put another book in force, and let the event types that it declares through the door."""
        self.book = book
        self.door = Door(self.settings.partitions, book.custom)
