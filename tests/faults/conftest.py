"""The broker and the store of the tests that kill them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from streams.embedded import EmbeddedStore
from tests.faults.kit import Rig
from tests.integration.conftest import kafka, own_kafka
from tests.kafka_server import KafkaServer

__all__ = ["kafka", "own_kafka"]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EmbeddedStore]:
    """A store of the test's own."""
    with EmbeddedStore(tmp_path / "store") as running:
        yield running


@pytest.fixture
def rig(own_kafka: KafkaServer, store: EmbeddedStore, tmp_path: Path) -> Iterator[Rig]:
    """Topics of the test's own, and workers that are started again when they end."""
    made = Rig(own_kafka.address, store.url, tmp_path)
    yield made
    made.close()
