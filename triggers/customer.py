"""The customer's document in memory: its parts decoded on demand, and which of them changed."""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import msgspec

from triggers.present import Now, pack_now, unpack_now
from triggers.rings import (
    Offers,
    Order,
    pack_offers,
    pack_orders,
    unpack_offers,
    unpack_orders,
)
from triggers.state import Armed, History, Meter

T = TypeVar("T")

#: Name of a part to its letter and its kind (:mod:`triggers.state`).
PARTS: dict[str, tuple[str, type]] = {
    "now": ("n", Now),
    "orders": ("o", dict[str, Order]),
    "owned": ("w", dict[str, int]),
    "offers": ("f", Offers),
    "marks": ("m", dict[str, int]),
    "bars": ("b", dict[str, int]),
    "armed": ("a", Armed),
    "history": ("h", History),
    "seen": ("s", bytearray),
    "usage": ("u", dict[str, Meter]),
    "held": ("l", list[tuple[int, bytes]]),
}
PART_LETTERS = "".join(letter for letter, _ in PARTS.values())
#: How parts of plain classes are unpacked and packed; the others are what msgpack makes of them.
_PLAIN: dict[str, tuple[Any, Any]] = {
    "now": (unpack_now, pack_now),
    "offers": (unpack_offers, pack_offers),
    "orders": (unpack_orders, pack_orders),
}
_encode = msgspec.msgpack.Encoder().encode
_DECODE: dict[str, Any] = {
    name: _PLAIN[name][0] if name in _PLAIN else msgspec.msgpack.Decoder(kind).decode
    for name, (_, kind) in PARTS.items()
}
_ENCODE: dict[str, Any] = {name: _PLAIN[name][1] if name in _PLAIN else _encode for name in PARTS}
_STRUCTS = frozenset({"armed", "history"})
_FRESH = {name: (list if name == "held" else kind) for name, (_, kind) in PARTS.items()}
_FRESH |= {"orders": dict, "owned": dict, "marks": dict, "bars": dict, "usage": dict}
_EMPTY_STRUCTS = {name: _FRESH[name]() for name in _STRUCTS}


class Customer:
    """A customer's document, decoded part by part on demand.

    The owner of a ``Customer`` is one partition at a time; the engine changes it in place and
    notes the changed parts, which :meth:`take_changes` hands to the store.
    """

    __slots__ = ("_changed", "_losses", "_parts", "_raw", "id", "now", "stored_due", "touch")

    def __init__(self, customer_id: str, raw: dict[str, bytes] | None = None) -> None:
        """``raw`` maps part letters to stored bytes; None or empty for an unknown customer."""
        self.id = customer_id
        self._raw: dict[str, bytes] = raw or {}
        self._parts: dict[str, Any] = {}
        self._changed: set[str] = set()
        #: Note that a part changes, by its name: the set's own method, for every event calls it.
        self.touch: Callable[[str], None] = self._changed.add
        self._losses: dict[str, int] = {}
        self.now: Now = self._load("now")
        self.stored_due = self.due_ms()

    def _load(self, name: str) -> Any:
        packed = self._raw.pop(PARTS[name][0], None)
        value = _FRESH[name]() if packed is None else _DECODE[name](packed)
        self._parts[name] = value
        return value

    def part(self, name: str) -> Any:
        """The decoded part, for reading; call :meth:`touch` before changing it."""
        try:
            return self._parts[name]
        except KeyError:
            return self._load(name)

    def lose(self, name: str, count: int = 1) -> None:
        """Note that a list of that name was at its bound, so that its oldest were forgotten."""
        self._losses[name] = self._losses.get(name, 0) + count

    def newest(self, name: str, values: list[T], most: int) -> list[T]:
        """The last ``most`` of ``values``; what goes is noted under ``name``."""
        if len(values) <= most:
            return values
        self.lose(name, len(values) - most)
        return values[-most:]

    def take_losses(self) -> Iterable[tuple[str, int]]:
        """What was forgotten because of a bound since the last call, by the list's name."""
        if not self._losses:
            return ()
        losses, self._losses = self._losses, {}
        return losses.items()

    def replace(self, name: str, value: Any) -> None:
        """Put a new value in place of a part (not of ``now``)."""
        self._raw.pop(PARTS[name][0], None)
        self._parts[name] = value
        self._changed.add(name)

    @property
    def orders(self) -> dict[str, Order]:
        """The last orders by their ids, oldest first."""
        return self.part("orders")  # type: ignore[no-any-return]

    @property
    def owned(self) -> dict[str, int]:
        """Sku -> number of live orders that hold it, least recently bought first."""
        return self.part("owned")  # type: ignore[no-any-return]

    @property
    def offers(self) -> Offers:
        """Offers made."""
        return self.part("offers")  # type: ignore[no-any-return]

    @property
    def marks(self) -> dict[str, int]:
        """What ``once_per`` used up -> when, oldest first."""
        return self.part("marks")  # type: ignore[no-any-return]

    @property
    def bars(self) -> dict[str, int]:
        """What ``unless`` events were about -> when, oldest first."""
        return self.part("bars")  # type: ignore[no-any-return]

    @property
    def armed(self) -> Armed:
        """Payloads of arming events."""
        return self.part("armed")  # type: ignore[no-any-return]

    @property
    def history(self) -> History:
        """Views and problems."""
        return self.part("history")  # type: ignore[no-any-return]

    @property
    def usage(self) -> dict[str, Meter]:
        """Metric -> what was used of it, least recently told first."""
        return self.part("usage")  # type: ignore[no-any-return]

    def due_ms(self) -> int:
        """When the clock has to look at this customer next, 0 for never."""
        now = self.now
        due = min([timer.due_ms for timer in now.timers]) if now.timers else 0
        return min(due, now.held_until) if due and now.held_until else due or now.held_until

    def put_now(self) -> None:
        """Let ``now`` be the part of that name, after it was replaced as a whole."""
        self._raw.pop(PARTS["now"][0], None)
        self._parts["now"] = self.now

    def wipe(self, gone: str, at_ms: int) -> None:
        """Forget everything but that the customer is ``gone`` (erased or objected); with ``""`` and
        0 also that they were ever known."""
        for name in PARTS:
            if name != "now":
                self.replace(name, _FRESH[name]())
        self.now = Now(at_ms, gone)
        self.put_now()
        self._changed.add("now")

    def take_changes(self) -> list[tuple[str, bytes]]:
        """Letters and packed bytes of the changed parts; empty bytes delete a part.

        Of who is ``gone`` or forgotten nothing is left, since a part lies under the customer's
        id: that they are gone is for the owner to remember without it.
        """
        changes = []
        for name in sorted(self._changed):
            value = self._parts[name]
            letter = PARTS[name][0]
            if name == "armed":
                value.pack()
            if name == "now":
                kept = not self.now.gone and not self.now.empty
            else:
                kept = value != _EMPTY_STRUCTS[name] if name in _STRUCTS else bool(value)
            changes.append((letter, _ENCODE[name](value) if kept else b""))
        self._changed.clear()
        return changes
