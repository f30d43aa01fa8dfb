"""TLS to Kafka and Redis: the context that certificates make, and why a handshake failed.

The clients tell of a refused certificate as of a server that is not there (kafka-python after 15 s,
redis-py as a lost connection), which sends whoever runs this to look in the wrong place.
"""

from __future__ import annotations

import socket
import ssl
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Final

from streams.errors import PreconditionError

if TYPE_CHECKING:
    from streams.settings import Settings

#: Of the bootstrap servers so many are tried, each so long; the client itself tries them all.
_ADDRESSES_MAX: Final = 3
_WAIT_S: Final = 3.0
#: ApiVersions, version 0: answered before a login. Key 18, correlation id 1, no client id.
_ASK: Final = struct.pack(">ihhih", 10, 18, 0, 1, -1)
#: What is said of a server that ends a connection before its first answer.
HUNG_UP: Final = "it hangs up after the handshake; does it want a certificate of ours?"


def client_context(
    cafile: Path | None, certfile: Path | None, keyfile: Path | None
) -> ssl.SSLContext:
    """What we trust and show: the system's authorities without `cafile`, no certificate of ours
    without `certfile`.

    Raises `OSError` for a file that is missing or no PEM, and for a key that is not the
    certificate's; `ssl.SSLError` is one.
    """
    context = ssl.create_default_context(cafile=str(cafile) if cafile else None)
    if certfile:
        # Without a password of ours OpenSSL would ask the terminal for that of a locked key.
        context.load_cert_chain(certfile, keyfile, password=lambda: "")
    return context


def tls_reason(error: BaseException | None) -> str:
    """What TLS says against a connection, from an error or its causes; empty: it says nothing."""
    for _ in range(10):
        if error is None:
            break
        if isinstance(error, ssl.SSLCertVerificationError):
            return f"its certificate is refused: {error.verify_message.rstrip('.')}"
        if isinstance(error, ssl.SSLError) and error.reason:
            said = error.reason.replace("_", " ").lower()
            if "alert" in said:
                return f"it refuses us: {said}"
            return f"the handshake failed, {said}; is TLS spoken there?"
        error = error.__cause__ or error.__context__
    return ""


def check_kafka_tls(settings: Settings) -> None:
    """Shake hands with the first bootstrap server that can be reached, where TLS is wanted.

    Raises `PreconditionError` when none of those tried takes part, at least one for a reason of
    TLS; a server that is away is the client's affair.
    """
    options = settings.kafka_options()
    context = options.get("ssl_context")
    if context is None:
        return
    reasons = []
    for address in options["bootstrap_servers"][:_ADDRESSES_MAX]:
        host, port = address.rsplit(":", 1)
        try:
            reason = _shake_hands(context, host.strip("[]"), int(port))
            if not reason:
                return
        except OSError as error:
            reason = tls_reason(error)
        reasons.append((address, reason))
    for address, reason in reasons:
        if reason:
            raise PreconditionError(
                f"no TLS with Kafka at {address}, {reason}",
                "see TSUIDE_KAFKA, TSUIDE_KAFKA_SECURITY, TSUIDE_KAFKA_CAFILE and "
                "TSUIDE_KAFKA_CERTFILE",
            )


def _shake_hands(context: ssl.SSLContext, host: str, port: int) -> str:
    """What was found after the handshake; raises `OSError` for what went wrong in it."""
    with (
        socket.create_connection((host, port), timeout=_WAIT_S) as plain,
        context.wrap_socket(plain, server_hostname=host) as wrapped,
    ):
        # A server that wants a certificate says so only after its own part is done (TLS 1.3), and
        # its word may be lost when it hangs up.
        try:
            wrapped.sendall(_ASK)
            return "" if wrapped.recv(4) else HUNG_UP
        except ConnectionError:
            return HUNG_UP
