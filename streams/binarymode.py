"""The Kafka binding's binary mode: attributes in `ce_*` headers, the value is `data`.

Source: CloudEvents 1.0, Kafka protocol binding, sections 3.2 and 3.3.
"""

from __future__ import annotations

from collections.abc import Iterable

_PREFIX = "ce_"
_STRUCTURED = b"application/cloudevents"
# More are no attributes of ours; the rest is not looked at.
_HEADERS_MAX = 256


def from_headers(headers: Iterable[tuple[str, bytes | None]]) -> dict[str, bytes | None] | None:
    """The envelope's attributes by name, without `data`; None where the value is the envelope.

    Of equal headers the last counts. The content type decides; without one, a `ce_` header does.
    """
    attributes: dict[str, bytes | None] = {}
    for index, (name, value) in enumerate(headers):
        if index >= _HEADERS_MAX:
            break
        if name.startswith(_PREFIX):
            attributes[name[len(_PREFIX) :]] = value
        elif name.lower() == "content-type" and _is_structured(value):
            return None
    return attributes or None


def _is_structured(content_type: bytes | None) -> bool:
    return content_type is not None and content_type.strip().lower().startswith(_STRUCTURED)
