"""The memory of repeats: which events of a customer were applied within the last 72 hours.

Packed entries of 18 bytes, oldest first: decision time (6 bytes, big-endian ms), a digest of
``(source, id)`` (8), a checksum of the event's bytes (4). An entry is small and is never looked
into but here, so a customer's memory costs no object an event.
"""

from struct import Struct

from triggers.customer import Customer
from triggers.ids import event_mark
from triggers.state import MAX_SEEN, SEEN_MS

NEW, REPEATED, CONFLICT = range(3)
_ENTRY = Struct(">HI8sI")
_WIDTH = _ENTRY.size
_MARK_AT = 6
_pack = _ENTRY.pack
_first_bytes = Struct(">Q").unpack_from
_SIZE_MAX = MAX_SEEN * _WIDTH


def remember(customer: Customer, source: str, event_id: str, at: int, checksum: int) -> int:
    """``NEW`` for an event that is not known, which is known from now on; else what it is.

    Known: seen in ``(at - 72h, at]`` and among the customer's last 256.
    """
    seen: bytearray = customer.part("seen")
    mark = event_mark(source, event_id)
    place = seen.find(mark)
    while place >= 0 and place % _WIDTH != _MARK_AT:
        place = seen.find(mark, place + 1)
    if place >= 0:
        then, checksum_then = _read(seen, place - _MARK_AT)
        if then > at - SEEN_MS:
            return REPEATED if checksum_then == checksum else CONFLICT
    seen += _pack(at >> 32, at & 0xFFFFFFFF, mark, checksum)
    if len(seen) > _SIZE_MAX:
        del seen[:_WIDTH]
        customer.lose("repeats")
    forgotten = at - SEEN_MS
    while _first_bytes(seen)[0] >> 16 <= forgotten:  # the time has 6 of these 8 bytes
        del seen[:_WIDTH]
    customer.touch("seen")
    return NEW


def _read(seen: bytearray, place: int) -> tuple[int, int]:
    """Time and checksum of the entry at ``place``."""
    high, low, _, checksum = _ENTRY.unpack_from(seen, place)
    return high << 32 | low, checksum
