"""A broker and a store behind TLS: the whole worker works with them, and trusts no others."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from streams.embedded import EmbeddedStore
from tests.authority import Authority, TlsDoor
from tests.integration.pipeline import Pipeline, secrets_in
from tests.kafka_server import SASL_PASSWORD, SASL_USER, KafkaServer

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(300)]


@pytest.fixture
def pipeline(kafka: KafkaServer, server: EmbeddedStore, tmp_path: Path) -> Iterator[Pipeline]:
    if not kafka.tls_address:
        pytest.skip("this broker has no listener with TLS")
    made = Pipeline(kafka.address, server.url, tmp_path)
    yield made
    made.close()


def logged_in(broker: KafkaServer, folder: Path, **changes: Any) -> dict[str, Any]:
    """Settings that reach the broker by TLS and log in there."""
    return {
        "kafka": broker.tls_address,
        "kafka_security": "SASL_SSL",
        "kafka_username": SASL_USER,
        "kafka_cafile": broker.authority.cafile,
        "secrets": secrets_in(folder / "secrets", kafka_password=SASL_PASSWORD),
        **changes,
    }


def offer_is_made(pipeline: Pipeline) -> bool:
    """Whether a worker with the pipeline's settings decides about a cart and ends in order."""
    pipeline.send_catalog([("sku1", "sku2")])
    worker = pipeline.start_worker()
    worker.wait_until_ready()
    pipeline.visit("ann")
    assert worker.stop() == 0
    _, decisions, _ = pipeline.output()
    return bool(decisions)


def refusal(pipeline: Pipeline) -> str:
    """What a worker says that ends because of its settings."""
    worker = pipeline.start_worker()
    assert worker.process.wait(60) == 1
    told = worker.log.read_text()
    assert SASL_PASSWORD not in told
    return told.strip().splitlines()[-1]


def test_the_whole_worker_and_the_commands_speak_tls_with_broker_and_store(
    pipeline: Pipeline, kafka: KafkaServer, server: EmbeddedStore, tmp_path: Path
) -> None:
    with TlsDoor(server.port, kafka.authority.server_context("localhost")) as door:
        trusted = {"redis": f"rediss://localhost:{door.port}/0"}
        pipeline.change(
            **logged_in(kafka, tmp_path, redis_cafile=kafka.authority.cafile, **trusted)
        )
        assert offer_is_made(pipeline)
        assert pipeline.tsuide("doctor").returncode == 0
        assert pipeline.tsuide("erase", "ann", "--wait", "0").returncode == 0
        assert pipeline.tsuide("dead-letters", "list").returncode == 0


def test_the_whole_worker_shows_its_certificate_to_a_broker_that_wants_one(
    pipeline: Pipeline, kafka: KafkaServer, tmp_path: Path
) -> None:
    certificate, key = kafka.authority.issue("worker")
    wanted = {
        "kafka": kafka.mutual_address,
        "kafka_security": "SSL",
        "kafka_cafile": kafka.authority.cafile,
    }
    pipeline.change(**wanted, kafka_certfile=certificate, kafka_keyfile=key)
    assert offer_is_made(pipeline)


@pytest.mark.parametrize("shown", [False, True], ids=["none", "a stranger's"])
def test_a_broker_that_wants_a_certificate_takes_no_other(
    pipeline: Pipeline, kafka: KafkaServer, tmp_path: Path, shown: bool
) -> None:
    files = {}
    if shown:
        certificate, key = Authority(tmp_path / "stranger").issue("worker")
        files = {"kafka_certfile": certificate, "kafka_keyfile": key}
    pipeline.change(
        kafka=kafka.mutual_address,
        kafka_security="SSL",
        kafka_cafile=kafka.authority.cafile,
        **files,
    )
    told = refusal(pipeline)
    assert told.startswith(f"no TLS with Kafka at {kafka.mutual_address}, it ")
    assert "it refuses us" in told or "does it want a certificate of ours?" in told
    assert "TSUIDE_KAFKA_CERTFILE" in told


def test_a_broker_of_an_unknown_authority_is_refused(
    pipeline: Pipeline, kafka: KafkaServer, tmp_path: Path
) -> None:
    other = Authority(tmp_path / "other").cafile
    pipeline.change(**logged_in(kafka, tmp_path, kafka_cafile=other))
    assert "its certificate is refused: unable to get local issuer certificate" in refusal(pipeline)
    asked = pipeline.tsuide("doctor")
    assert asked.returncode == 1
    assert "FAIL topics: no TLS with Kafka at localhost" in asked.stdout


def test_a_broker_of_another_name_is_refused(
    pipeline: Pipeline, kafka: KafkaServer, tmp_path: Path
) -> None:
    by_number = kafka.tls_address.replace("localhost", "127.0.0.1")
    pipeline.change(**logged_in(kafka, tmp_path, kafka=by_number))
    assert "certificate is not valid for '127.0.0.1'" in refusal(pipeline)


def test_a_broker_without_tls_is_sent_no_password(
    pipeline: Pipeline, kafka: KafkaServer, tmp_path: Path
) -> None:
    pipeline.change(**logged_in(kafka, tmp_path, kafka=kafka.sasl_address))
    assert "is TLS spoken there?" in refusal(pipeline)
