"""What a batch's decisions become: records to publish, in the log's order."""

from typing import TypeVar

from streams.outbox import Outgoing
from triggers.decisions import Offer
from triggers.judgement import Step

T = TypeVar("T")


def in_order(values: list[T], places: list[int]) -> list[T]:
    """``values`` by their places; equal places keep their order."""
    ranked = sorted(zip(places, range(len(values)), strict=True))
    return [values[index] for _, index in ranked]


def outgoing(out: Step) -> list[Outgoing]:
    """The records of what was decided: offers and withdrawals first, then decisions."""
    records = []
    for offer in out.offers:
        topic, customer, event_id, value = offer.record()
        key = customer.encode()
        if isinstance(offer, Offer):
            at = offer.at
            due, late = offer.trigger.due_ms or at, offer.skip_after_ms
            record = Outgoing(topic, key, value, event_id, None, at, offer.valid_until, due, late)
        else:
            record = Outgoing(topic, key, value, event_id)
        records.append(record)
    for decision in out.decisions:
        topic, customer, event_id, value = decision.record()
        records.append(Outgoing(topic, customer.encode(), value, event_id))
    return records
