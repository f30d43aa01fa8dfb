"""Digests that stand for ids: the same input gives the same id after any crash or replay."""

from hashlib import blake2b


def _framed(*parts: str) -> bytes:
    # Lengths go in front so that ("a", "bc") and ("ab", "c") can never meet.
    return "".join([f"{len(part)}:{part}" for part in parts]).encode()


def offer_id(rule: str, customer: str, source: str, event_id: str) -> str:
    """The id of the offer that ``rule`` makes ``customer`` because of one event: 32 hex digits."""
    # What _framed() does, written out: this runs for every decision.
    framed = (
        f"{len(rule)}:{rule}{len(customer)}:{customer}"
        f"{len(source)}:{source}{len(event_id)}:{event_id}"
    )
    return blake2b(framed.encode(), digest_size=16).hexdigest()


def event_mark(source: str, event_id: str) -> bytes:
    """Eight bytes that stand for ``(source, id)`` in the memory of repeats."""
    return blake2b(f"{len(source)}:{source}{event_id}".encode(), digest_size=8).digest()


def share_below(share: float, *parts: str) -> bool:
    """Whether the digest of ``parts`` falls into the first ``share`` (0 to 1) of all digests."""
    number = int.from_bytes(blake2b(_framed(*parts), digest_size=8).digest(), "big")
    return number < share * 2**64
