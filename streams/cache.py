"""Documents of customers in a worker's memory, bounded by number and by size."""

from collections import Counter
from collections.abc import Mapping

from triggers.customer import Customer


class DocumentCache(dict[str, Customer]):
    """Customers by id. Those that came in longest ago go first; the store has them all.

    A document's size is that of its packed parts when it was read, or of those last written, when
    they are more; used ones take four to six times as much in objects.
    """

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0
        self._sizes: dict[str, int] = {}

    def weigh(self, customer_id: str, size_bytes: int) -> None:
        """Note how large a document was when it was read or written."""
        known = self._sizes.get(customer_id, 0)
        if size_bytes > known:
            self._sizes[customer_id] = size_bytes
            self.bytes += size_bytes - known

    def weigh_written(self, docs: Mapping[tuple[bytes, str], bytes]) -> None:
        """Weigh the documents of a batch by their written parts."""
        sizes: Counter[bytes] = Counter()
        for (raw_id, _), packed in docs.items():
            sizes[raw_id] += len(packed)
        for raw_id, size_bytes in sizes.items():
            customer_id = raw_id.decode()
            if customer_id in self:
                self.weigh(customer_id, size_bytes)

    def make_room(self, most: int, most_bytes: int) -> None:
        """Forget documents until no more than ``most`` are left and they fit ``most_bytes``."""
        while self and (len(self) > most or self.bytes > most_bytes):
            customer_id = next(iter(self))
            del self[customer_id]
            self.bytes -= self._sizes.pop(customer_id, 0)

    def clear(self) -> None:
        """Forget all documents."""
        super().clear()
        self._sizes.clear()
        self.bytes = 0
