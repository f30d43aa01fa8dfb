"""The Faust app: which of Faust's settings hold, and how it is run without Faust's worker."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, Protocol

import faust
from faust.types.settings import Settings as FaustSettings
from faust.types.transports import TransportT
from mode.supervisors import CrashingSupervisor

from streams.assignor import PartitionAssignor
from streams.producer import Producer
from streams.transport import Intake, Transport

__all__ = ["STOP_SIGNALS", "App", "AppSettings", "create_app", "run_app", "run_until_told"]

log = logging.getLogger(__name__)

HEARTBEAT_S_MAX = 3.0
# Longer than claim and release together; shorter than a request, for a join waits that long.
REBALANCE_S = 20
REQUEST_S = 30
BATCH_BYTES_MAX = 512 * 1024
STOP_S_MAX = 40.0
#: By these a process manager or a terminal asks the worker to end.
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class AppSettings(Protocol):
    """The settings that matter here (`streams/settings.py` has them all)."""

    @property
    def kafka(self) -> str:
        """HOST:PORT, several parted by commas."""

    @property
    def prefix(self) -> str:
        """Stands before every topic's name."""

    @property
    def group(self) -> str:
        """The consumer group's id."""

    @property
    def instance(self) -> str | None:
        """Static membership: a restart within the session timeout moves no partitions."""

    @property
    def session_seconds(self) -> float:
        """How long a silent worker keeps its partitions."""

    @property
    def data_dir(self) -> Path | str:
        """Given to Faust, which writes nothing there."""

    def kafka_options(self) -> dict[str, Any]:
        """Addresses and credentials as aiokafka calls them."""


class Settings(FaustSettings):
    """Faust's settings as we pass them.

    Faust lets environment variables (`BROKER_URL`, `PRODUCER_ACKS`, `TABLE_STANDBY_REPLICAS` and
    a hundred more) win over arguments, so a name meant for another program could change what we
    promise.
    """

    def getenv(self, env_name: str) -> Any:
        """Answer nothing."""
        return None


class App(faust.App):
    """A Faust app that reads `topics_in` into `intake`."""

    Settings = Settings
    intake: Intake
    topics_in: tuple[str, ...]
    kafka_options: dict[str, Any]

    def _new_transport(self) -> TransportT:
        return Transport(self.conf.broker_consumer, self)

    def _new_producer_transport(self) -> TransportT:
        return Transport(self.conf.broker_producer, self)

    def _create_directories(self) -> None:
        # Faust's tables would live there; the worker's file system may be read-only.
        pass

    @property
    def sender(self) -> Producer:
        """The producer, with `send_batch`."""
        producer = self.producer
        assert isinstance(producer, Producer)
        return producer


def create_app(settings: AppSettings, intake: Intake, topics: Sequence[str]) -> App:
    """Build the app; call it inside the running event loop.

    `topics` are the customer topics without prefix: all have equal partition counts.
    """
    # At DEBUG aiokafka builds a log record for every send and every fetched partition.
    if logging.getLogger("aiokafka").getEffectiveLevel() <= logging.DEBUG:
        logging.getLogger("aiokafka").setLevel(logging.INFO)
    app = App(
        settings.group,
        broker=";".join(f"kafka://{address.strip()}" for address in settings.kafka.split(",")),
        broker_client_id=f"tsuide-{settings.instance or f'{socket.gethostname()}-{os.getpid()}'}",
        broker_session_timeout=settings.session_seconds,
        broker_heartbeat_interval=min(HEARTBEAT_S_MAX, settings.session_seconds / 3),
        broker_rebalance_timeout=REBALANCE_S,
        broker_request_timeout=REQUEST_S,
        broker_max_poll_interval=300,
        broker_commit_interval=5.0,
        consumer_group_instance_id=settings.instance,
        PartitionAssignor=PartitionAssignor,
        # See `PartitionAssignor`: without it Faust assigns round-robin.
        table_standby_replicas=1,
        producer_acks=-1,
        producer_max_batch_size=BATCH_BYTES_MAX,
        producer_max_request_size=2 * BATCH_BYTES_MAX,
        producer_request_timeout=REQUEST_S,
        # An exception in an agent acknowledges its event all the same: it must end the worker.
        agent_supervisor=CrashingSupervisor,
        stream_wait_empty=False,
        topic_allow_declare=False,
        topic_disable_leader=True,
        autodiscover=False,
        web_enabled=False,
        debug=False,
        datadir=Path(settings.data_dir) / "faust",
    )
    app.intake = intake
    # Faust's own credentials know no client certificates; aiokafka is told directly.
    app.kafka_options = settings.kafka_options()
    app.topics_in = tuple(settings.prefix + topic for topic in topics)
    app.topics.add(app.topic(*app.topics_in))
    return app


async def run_until_told(work: Coroutine[Any, Any, int]) -> int:
    """Run what starts a worker and then calls `run_app`; 0 when told to stop before that.

    A worker that is still starting has claimed nothing and holds nothing: it ends without a
    release, though not before an answer of Kafka that it is just waiting for.
    """
    loop = asyncio.get_running_loop()
    starting = asyncio.ensure_future(work)
    told = asyncio.Event()

    def stop() -> None:
        told.set()
        starting.cancel()

    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, stop)
    try:
        return await starting
    except asyncio.CancelledError:
        if told.is_set():
            log.info("told to stop while starting")
            return 0
        # A client may cancel what it was asked for when its connection goes: that is a failure,
        # after which a process manager has to start us again.
        log.exception("cancelled by nobody who asked us to stop")
        return 1


async def run_app(app: App, on_ready: Callable[[], Awaitable[None]] | None = None) -> int:
    """Run until SIGTERM, SIGINT or a crash; answer the process's exit code, 0 or 1.

    An app that stops although nobody asked has failed, too: only a signal ends it with 0.
    `on_ready` is called once the first partitions are claimed and read. After a crash a thread
    may hang in a dead connection: leave the process with `os._exit` where the code is 1.
    """
    loop = asyncio.get_running_loop()
    asked = asyncio.Event()
    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, asked.set)
    starting = asyncio.ensure_future(_start(app, on_ready))
    stop = asyncio.ensure_future(asked.wait())
    crash = asyncio.ensure_future(app.wait_until_stopped())
    try:
        await asyncio.wait([starting, stop, crash], return_when=asyncio.FIRST_COMPLETED)
        if starting.done() and starting.exception() is None and not app.crashed:
            await asyncio.wait([stop, crash], return_when=asyncio.FIRST_COMPLETED)
        failed = _fault(app, starting)
        if failed is None and not asked.is_set():
            failed = RuntimeError("it stopped although nobody asked it to")
        if failed is not None:
            log.critical("worker ends: %r", failed)
        stopped = await _stop(app)
        return 0 if failed is None and stopped and not app.crashed else 1
    finally:
        for future in (starting, stop, crash):
            future.cancel()
        for number in STOP_SIGNALS:
            loop.remove_signal_handler(number)


async def _start(app: App, on_ready: Callable[[], Awaitable[None]] | None) -> None:
    await app.start()
    if on_ready is not None and not app.should_stop:
        await on_ready()


def _fault(app: App, starting: asyncio.Future[None]) -> BaseException | None:
    if app.crashed:
        return app.crash_reason or RuntimeError("crashed for no known reason")
    return starting.exception() if starting.done() else None


async def _stop(app: App) -> bool:
    try:
        async with asyncio.timeout(STOP_S_MAX):
            await app.stop()
    except Exception:
        log.exception("the worker did not stop in order")
        return False
    return True
