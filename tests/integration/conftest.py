"""Services for the integration tests, one of each for a whole run."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import redis

from streams.embedded import EmbeddedStore
from tests.integration.stores import empty
from tests.kafka_server import KafkaServer, KafkaUnavailableError, start_kafka


@pytest.fixture(scope="session")
def kafka() -> Iterator[KafkaServer]:
    """An Apache Kafka broker; where none is possible its tests are skipped, but never in CI."""
    try:
        server = start_kafka()
    except KafkaUnavailableError as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(f"no Apache Kafka here: {error}")
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
def own_kafka(kafka: KafkaServer) -> KafkaServer:
    """The broker of this run, for tests that kill and restart it."""
    if not kafka.own:
        pytest.skip("TSUIDE_TEST_KAFKA is somebody's broker: it is not killed")
    return kafka


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedStore]:
    """A store for the tests of one module."""
    with EmbeddedStore(tmp_path_factory.mktemp("store")) as running:
        yield running


@pytest.fixture
def raw(server: EmbeddedStore) -> Iterator[redis.Redis]:
    """A plain client of that store, which is empty."""
    yield from empty(server)
