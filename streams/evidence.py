"""The evidence of consent: what was granted or taken back, when, and what proves it.

Who sends advertising must be able to prove the consent to it, for years and after an erasure too.
So it lies apart from the state, in the topic ``consent-evidence``: no id, but the digest of
:mod:`streams.erasure`, the instant, the channel, the shop's reference to its proof, and the place
of the record that said so. Nobody in the program reads it. A record may come twice; its id tells.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from streams.erasure import Entry, Ledger
from streams.outbox import Outgoing
from streams.proofs import PROOF
from streams.topics import EVIDENCE
from triggers.durations import to_text
from triggers.events import CUSTOMER, Event

#: What is evidence, and what it is called.
WORDS: Final = {
    "consent.granted": "granted",
    "consent.revoked": "revoked",
    "customer.objected": "objected",
    "customer.erase_requested": "erased",
}

_to_json = msgspec.json.Encoder().encode


class Said(msgspec.Struct, frozen=True, gc=False):
    """One word about consent, from the record at ``offset`` of ``customer`` at ``at_ms``."""

    event: Event
    at_ms: int
    offset: int


def evidence(said: Said, partition: int, ledger: Ledger, left: Mapping[str, Entry]) -> Outgoing:
    """The record that keeps it; ``left`` are the batch's news for the ledger, by digest.

    Of who is gone by now, or was gone since and has returned, the reference is left out: it may be
    a text about a person.
    """
    event = said.event
    data: Any = event.data
    digest = ledger.digest(event.subject)
    proof = getattr(data, PROOF, None)
    entry = left.get(digest) or ledger.under(digest)
    if entry is not None and (entry.gone or entry.covers(CUSTOMER, said.offset, said.at_ms)):
        proof = None
    number = f"{digest}.{partition}.{said.offset}"
    value = {
        "id": number,
        "customer": digest,
        "said": WORDS[event.type],
        "channel": getattr(data, "channel", "*"),
        "at": to_text(said.at_ms),
        PROOF: proof,
        "place": f"customer/{partition}/{said.offset}",
    }
    return Outgoing(EVIDENCE, digest.encode(), _to_json(value), number)
