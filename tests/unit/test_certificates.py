"""Certificates in the settings: what cannot be used is said at once, by the setting's name."""

from __future__ import annotations

import socketserver
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from streams.errors import PreconditionError, SettingsError
from streams.settings import Settings, load_settings
from streams.tls import check_kafka_tls
from tests.authority import Authority, TlsDoor
from tests.kafka_server import free_port


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


def over_tls(**files: Path) -> Settings:
    """Settings for a broker and a store that speak TLS."""
    return load_settings(
        kafka=f"localhost:{free_port()}",
        kafka_security="SSL",
        redis="rediss://localhost:1",
        **files,
    )


def test_files_of_the_settings_are_those_that_the_clients_use(authority: Authority) -> None:
    certificate, key = authority.issue("worker")
    settings = over_tls(
        kafka_cafile=authority.cafile,
        redis_cafile=authority.cafile,
        redis_certfile=certificate,
        redis_keyfile=key,
    )
    context = settings.kafka_options()["ssl_context"]
    assert len(context.get_ca_certs()) == 1  # none of the system's
    assert (context.check_hostname, context.verify_mode) == (True, ssl.CERT_REQUIRED)
    assert parse_qs(urlsplit(settings.redis_url()).query) == {
        "ssl_ca_certs": [str(authority.cafile)],
        "ssl_certfile": [str(certificate)],
        "ssl_keyfile": [str(key)],
    }


@pytest.mark.parametrize("server", ["kafka", "redis"])
def test_a_file_that_cannot_be_used_is_named(
    server: str, authority: Authority, tmp_path: Path
) -> None:
    certificate, key = authority.issue("worker")
    _, other = authority.issue("other")
    text = tmp_path / "text.pem"
    text.write_text("no certificate")
    locked = tmp_path / "locked.pem"  # must not ask the terminal for its password
    locked.write_bytes(
        load_pem_private_key(key.read_bytes(), None).private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"a password")
        )
    )
    for files, told in (
        ({"cafile": tmp_path / "none"}, "cafile: there is no such file"),
        ({"cafile": text}, "cafile: cannot be used"),
        ({"keyfile": key}, "keyfile: the certificate is missing"),
        ({"certfile": certificate, "keyfile": other}, "keyfile: cannot be used"),
        ({"certfile": certificate, "keyfile": locked}, "keyfile: cannot be used"),
    ):
        with pytest.raises(SettingsError, match=f"{server}_{told}|, {server}_{told}"):
            over_tls(**{f"{server}_{name}": path for name, path in files.items()})


def test_certificates_for_a_connection_in_the_clear_are_not_passed_over(
    authority: Authority,
) -> None:
    with pytest.raises(SettingsError, match="TSUIDE_KAFKA_SECURITY does not ask for TLS"):
        load_settings(kafka_cafile=authority.cafile)
    with pytest.raises(SettingsError, match="TSUIDE_REDIS does not ask for TLS"):
        load_settings(redis_cafile=authority.cafile)


def test_a_broker_that_is_away_is_no_fault_of_tls(authority: Authority) -> None:
    check_kafka_tls(over_tls(kafka_cafile=authority.cafile))


@pytest.fixture
def answering() -> Iterator[int]:
    """The port of a server that answers whatever it is asked with a few bytes."""

    class Answer(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            if self.request.recv(100):
                self.request.sendall(b"some answer")

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=lambda: server.serve_forever(0.02), daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def test_one_broker_of_several_is_enough_for_tls(authority: Authority, answering: int) -> None:
    def check(*ports: int) -> None:
        addresses = ",".join(f"localhost:{port}" for port in ports)
        ca = authority.cafile
        check_kafka_tls(load_settings(kafka=addresses, kafka_security="SSL", kafka_cafile=ca))

    away = free_port()
    with (
        TlsDoor(answering, authority.server_context("elsewhere")) as other,
        TlsDoor(answering, authority.server_context("localhost")) as ours,
        TlsDoor(away, authority.server_context("localhost")) as mute,
    ):
        check(away, other.port, ours.port)
        for port, told in ((other.port, "its certificate is refused"), (mute.port, "it hangs up")):
            with pytest.raises(PreconditionError, match=f"localhost:{port}, {told}"):
                check(away, port)
        with pytest.raises(PreconditionError, match="is TLS spoken there"):
            check(answering)
