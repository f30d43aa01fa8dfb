"""What the Faust app is told, without a broker."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import pytest
from faust.types import TP

from streams.app import STOP_SIGNALS, App, create_app, run_app, run_until_told
from streams.assignor import PartitionAssignor, colocation_fault
from streams.transport import Consumer, Intake, Transport


class Given(NamedTuple):
    kafka: str = "one:9092, two:9093"
    prefix: str = "shop."
    group: str = "tsuide"
    instance: str | None = None
    session_seconds: float = 10.0
    data_dir: str = "/nowhere"

    def kafka_options(self) -> dict[str, Any]:
        return {
            "bootstrap_servers": self.kafka.split(", "),
            "security_protocol": "SASL_PLAINTEXT",
            "sasl_mechanism": "SCRAM-SHA-512",
            "sasl_plain_username": "tsuide",
            "sasl_plain_password": "secret",
        }


def with_app(look: Callable[[App], None]) -> None:
    async def run() -> None:
        look(create_app(Given(), cast(Intake, None), ["cart", "purchase"]))

    asyncio.run(run())


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_a_worker_that_is_told_to_stop_while_it_starts_ends_in_order(number: int) -> None:
    steps: list[str] = []

    async def starting() -> int:
        try:
            os.kill(os.getpid(), number)
            await asyncio.sleep(30)
        finally:
            steps.append("taken apart")
        return 1

    assert asyncio.run(run_until_told(starting())) == 0
    assert steps == ["taken apart"]


def test_a_worker_that_a_client_cancels_has_failed() -> None:
    async def starting() -> int:
        gone = asyncio.get_running_loop().create_future()
        gone.cancel()
        await gone
        return 0

    assert asyncio.run(run_until_told(starting())) == 1


class _Halting:
    """As much of an app as `run_app` sees; it stops by itself unless a signal comes first."""

    crashed = should_stop = False
    crash_reason = None

    def __init__(self, number: int | None) -> None:
        self._number = number
        self.stopped = 0

    async def start(self) -> None:
        if self._number is not None:
            os.kill(os.getpid(), self._number)

    async def wait_until_stopped(self) -> None:
        await asyncio.sleep(0 if self._number is None else 30)

    async def stop(self) -> None:
        self.stopped += 1


@pytest.mark.parametrize(("number", "code"), [(None, 1), *((number, 0) for number in STOP_SIGNALS)])
def test_only_a_signal_ends_a_running_worker_with_0(number: int | None, code: int) -> None:
    app = _Halting(number)
    assert asyncio.run(run_app(cast(App, app))) == code
    assert app.stopped == 1


def test_environment_variables_for_faust_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "BROKER_URL": "kafka://elsewhere",
        "PRODUCER_ACKS": "0",
        "TABLE_STANDBY_REPLICAS": "0",
        "BROKER_SESSION_TIMEOUT": "99",
        "PROCESSING_GUARANTEE": "exactly_once",
    }.items():
        monkeypatch.setenv(name, value)

    def look(app: App) -> None:
        assert [str(url) for url in app.conf.broker] == ["kafka://one:9092", "kafka://two:9093"]
        assert app.conf.producer_acks == -1
        assert app.conf.table_standby_replicas == 1
        assert app.conf.broker_session_timeout == 10
        assert cast(Any, app.conf).processing_guarantee.value == "at_least_once"

    with_app(look)


def test_our_transport_consumer_producer_and_assignor_are_in_place() -> None:
    def look(app: App) -> None:
        assert isinstance(app.transport, Transport)
        assert isinstance(app.consumer, Consumer)
        assert app.sender._settings_extra() == {"acks": "all", "enable_idempotence": True}
        assert isinstance(app.assignor, PartitionAssignor)
        assert app.assignor.replicas == 0
        assert app.topics_in == ("shop.cart", "shop.purchase")
        assert logging.getLogger("aiokafka").getEffectiveLevel() > logging.DEBUG

    with_app(look)


def test_addresses_and_credentials_reach_both_clients() -> None:
    def look(app: App) -> None:
        consumer = cast(Any, app.consumer)._thread._create_worker_consumer(app.transport)
        producer = app.sender._new_producer()
        for client in (consumer._client, producer.client):
            assert {host[:2] for host in client.hosts} == {("one", 9092), ("two", 9093)}
            assert client._security_protocol == "SASL_PLAINTEXT"
            assert client._sasl_mechanism == "SCRAM-SHA-512"
            assert (client._sasl_plain_username, client._sasl_plain_password) == (
                "tsuide",
                "secret",
            )

    with_app(look)


def test_partitions_that_do_not_lie_together_are_named() -> None:
    def counts(topic: str) -> int | None:
        return {"cart": 4, "usage": 8}.get(topic)

    together = {TP(topic, part) for topic in ("cart", "usage") for part in (1, 3)}
    assert colocation_fault(together, ["cart", "usage"], counts) is None
    assert colocation_fault(set(), ["cart", "usage"], counts) is None
    fault = colocation_fault(together - {TP("usage", 3)}, ["cart", "usage", "feedback"], counts)
    assert fault is not None
    assert "cart [1, 3] of 4 partitions" in fault
    assert "usage [1] of 8 partitions" in fault
    assert "feedback [] of no partitions" in fault
