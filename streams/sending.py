"""Looking again at an offer that leaves late.

An offer counts as decided at its decision time, live and in a replay alike. When it leaves more
than a minute of real time after that (a worker was down, timers were overdue), the clock has a
say: what is out of date or lost its consent is not sent and noted as ``expired``; what would
arrive in quiet hours is held with the customer until they end.
"""

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from streams.clock import Clock
from streams.outbox import Outgoing, expired_id
from streams.topics import DECISIONS
from triggers.book import Book
from triggers.catalog import Catalog
from triggers.customer import Customer
from triggers.decisions import SOURCE
from triggers.durations import to_text
from triggers.gates import consented
from triggers.state import MAX_HELD

LATE_MS = 60_000

_decode = msgspec.json.Decoder(dict[str, Any]).decode
_encode = msgspec.json.Encoder().encode
_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(Outgoing).decode

Find = Callable[[str], Awaitable[Customer]]
Hold = Callable[[str, int, Outgoing], Awaitable[None]]


class LateCheck:
    """Decides what becomes of one record that is about to leave."""

    def __init__(
        self,
        clock: Clock,
        book: Callable[[], Book],
        catalog: Catalog,
        find: Find,
        hold: Hold,
        on_expired: Callable[[str, str], None],
    ) -> None:
        """``find`` gives a customer as stored; ``hold`` keeps a record until an instant and
        returns once that is stored."""
        self._clock = clock
        self._book = book
        self._catalog = catalog
        self._find = find
        self._hold = hold
        self._on_expired = on_expired

    async def __call__(self, record: Outgoing) -> list[Outgoing]:
        """The records to send instead: itself, a note that it expired, or nothing yet."""
        now = self._clock.now_ms()
        if self._clock.follows_log or now - record.at <= LATE_MS:
            return [record]
        assert record.key is not None
        customer = await self._find(record.key.decode())
        if is_held(customer, record):
            return []  # stored before a crash: the held copy will leave, and only that one
        if now > record.until or _too_late(record, now):
            return [self._expired(record, "stale", now)]
        channel = record.topic.removeprefix("offers.")
        if customer.now.gone or not consented(customer.now.consents, channel):
            return [self._expired(record, "no_consent", now)]
        end = self._quiet_until(record, customer, channel, now)
        if end is None:
            return [record]
        if end > record.until:
            return [self._expired(record, "stale", now)]
        await self._hold(customer.id, end, record)
        return []

    def _quiet_until(
        self, record: Outgoing, customer: Customer, channel: str, now: int
    ) -> int | None:
        book = self._book()
        rule = book.rules.get(str(_decode(record.value)["data"]["rule"]))
        quiet = (rule.quiet_hours if rule is not None else None) or book.quiet_hours
        if quiet is None or channel not in quiet.channels:
            return None
        zone = customer.now.timezone or book.timezone
        return quiet.window.end_after(now, zone) if quiet.window.holds(now, zone) else None

    def _expired(self, record: Outgoing, reason: str, now: int) -> Outgoing:
        """The ``expired`` note that goes out in place of an offer."""
        event = _decode(record.value)
        offer = event["data"]
        rule = self._book().rules.get(offer["rule"])
        data = {name: offer[name] for name in ("rule", "rule_book", "kind", "trigger")}
        data |= {
            "outcome": "expired",
            "reason": reason,
            "offer_id": record.id,
            "priority": rule.priority if rule is not None else 0,
            "catalog_version": self._catalog.version,
        }
        self._on_expired(str(offer["rule"]), reason)
        note_id = expired_id(record.id)
        note = {
            "specversion": "1.0",
            "id": note_id,
            "source": SOURCE,
            "type": "decision.made",
            "time": to_text(now),
            "subject": event["subject"],
            "data": data,
        }
        return Outgoing(DECISIONS, record.key, _encode(note), note_id)


def _too_late(record: Outgoing, now: int) -> bool:
    return record.skip_after_ms is not None and now - record.due > record.skip_after_ms


def hold(customer: Customer, until_ms: int, record: Outgoing) -> None:
    """Keep a record with its customer until ``until_ms``; a second copy changes nothing."""
    if not is_held(customer, record):
        held: list[tuple[int, bytes]] = customer.part("held")
        _keep(customer, customer.newest("held", [*held, (until_ms, _pack(record))], MAX_HELD))


def is_held(customer: Customer, record: Outgoing) -> bool:
    """Whether a record is kept with its customer."""
    if not customer.now.held_until:
        return False
    packed = _pack(record)
    return any(known == packed for _, known in customer.part("held"))


def take_held(customer: Customer, up_to_ms: int) -> list[Outgoing]:
    """Remove and return the records that may leave at ``up_to_ms``."""
    if not customer.now.held_until or customer.now.held_until > up_to_ms:
        return []
    held: list[tuple[int, bytes]] = customer.part("held")
    _keep(customer, [entry for entry in held if entry[0] > up_to_ms])
    return [_unpack(packed) for until_ms, packed in held if until_ms <= up_to_ms]


def _keep(customer: Customer, held: list[tuple[int, bytes]]) -> None:
    customer.replace("held", held)
    customer.now.held_until = min((until_ms for until_ms, _ in held), default=0)
    customer.touch("now")
