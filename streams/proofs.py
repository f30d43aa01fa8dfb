"""The shop's reference to its proof of a consent, taken back out of evidence that still waits.

A reference may be a text about a person. So it does not leave any more once its customer is gone;
the rest of the evidence does, for it names nobody.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from triggers.rfc3339 import rfc3339_ms

PROOF: Final = "proof"

_to_json = msgspec.json.Encoder().encode
_from_json = msgspec.json.Decoder(dict[str, Any]).decode


def told_at(value: bytes) -> tuple[int, int]:
    """Offset (in ``customer``) and timestamp (ms) of the record that a piece of evidence tells."""
    told = _from_json(value)
    return int(told["place"].rsplit("/", 1)[1]), rfc3339_ms(told["at"]) or 0


def without_proof(value: bytes) -> bytes:
    """The same piece of evidence without its reference."""
    return _to_json({**_from_json(value), PROOF: None})
