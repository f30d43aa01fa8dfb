"""A broker that wants a name and a password: every part of the worker logs in."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from streams.embedded import EmbeddedStore
from tests.integration.pipeline import Pipeline, secrets_in
from tests.kafka_server import SASL_PASSWORD, SASL_USER, KafkaServer

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(300)]


@pytest.fixture
def pipeline(kafka: KafkaServer, tmp_path: Path) -> Iterator[Pipeline]:
    if not kafka.sasl_address:
        pytest.skip("this broker has no listener with passwords")
    with EmbeddedStore(tmp_path / "store") as store:
        made = Pipeline(kafka.address, store.url, tmp_path)
        yield made
        made.close()


def log_in(pipeline: Pipeline, kafka: KafkaServer, password: str, folder: Path) -> None:
    """Let commands and workers come in by the other door; the password lies in a file."""
    pipeline.change(
        kafka=kafka.sasl_address,
        kafka_security="SASL_PLAINTEXT",
        kafka_username=SASL_USER,
        secrets=secrets_in(folder, kafka_password=password),
    )


def test_the_whole_worker_and_the_commands_log_in_with_scram(
    pipeline: Pipeline, kafka: KafkaServer, tmp_path: Path
) -> None:
    pipeline.send_catalog([("sku1", "sku2")])
    log_in(pipeline, kafka, SASL_PASSWORD, tmp_path / "secrets")
    assert SASL_PASSWORD not in repr(pipeline.settings)
    worker = pipeline.start_worker()
    worker.wait_until_ready()
    pipeline.visit("ann")
    assert pipeline.tsuide("doctor").returncode == 0
    assert pipeline.tsuide("erase", "ann", "--wait", "30").returncode == 0
    assert pipeline.tsuide("dead-letters", "list").returncode == 0
    assert worker.stop() == 0
    _, decisions, _ = pipeline.output()
    assert decisions
    assert SASL_PASSWORD not in worker.log.read_text()


def test_a_wrong_password_is_said_and_not_shown(
    pipeline: Pipeline, kafka: KafkaServer, tmp_path: Path
) -> None:
    wrong = "not the password of the tests"
    log_in(pipeline, kafka, wrong, tmp_path / "secrets")
    started = time.monotonic()
    worker = pipeline.start_worker()
    assert worker.process.wait(60) == 1
    assert time.monotonic() - started < 45
    told = worker.log.read_text()
    assert "Kafka at 127.0.0.1" in told
    assert wrong not in told
    asked = pipeline.tsuide("doctor")
    assert asked.returncode == 1
    assert wrong not in asked.stdout + asked.stderr
