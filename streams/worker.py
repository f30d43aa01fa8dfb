"""One worker process: everything is put together here, and taken apart in order.

Start: settings, logs, rule book, store, topics, catalogue; then Faust joins the group and the
partitions it is given are claimed. Stop (SIGTERM): the batch in hand is finished, what is decided
is published, the group is left. Anything unexpected ends the process with status 1, and whoever
takes over reads on from where the store stands.
"""

import asyncio
import os
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import structlog

from streams import log as logs
from streams.app import App, create_app, run_app, run_until_told
from streams.catalog import CatalogReader
from streams.clock import Clock, steady_ms
from streams.clockguard import compare_once, make_clock, watch_clock
from streams.codec import Door
from streams.collector import calm_collector
from streams.erasure import Ledger, LedgerReader
from streams.erasurekey import check_erasure_key
from streams.errors import PreconditionError, StreamsError, UsageError
from streams.failpoints import arm_from_text
from streams.following import Follower
from streams.intake import Intake
from streams.learning import LearnedReader
from streams.observer import WorkerObserver
from streams.rulefiles import RuleFolder
from streams.settings import Settings
from streams.store.errors import StoreError
from streams.store.patience import Patience, PatientStore
from streams.storemarks import StoreMarks
from streams.storewatch import BookWatch, trim_while_full, watch_server
from streams.topicids import check_topic_ids, topic_ids, watch_topic_ids
from streams.topics import check_topics, output_topics
from streams.web.server import WebServer
from streams.world import World
from triggers.catalog import Catalog
from triggers.events import TOPICS

log = structlog.get_logger(__name__)

_TICK_S = 1.0


class StalledError(StreamsError):
    """Records that may be applied wait, and nothing was applied for too long."""


def run_worker(settings: Settings) -> int:
    """Run one worker until SIGTERM or a crash; the exit status."""
    if settings.rules is None:
        raise UsageError("no rule book: give --rules DIR or TSUIDE_RULES")
    logs.configure(settings)
    if settings.failpoint:
        arm_from_text(settings.failpoint)
    try:
        code = asyncio.run(run_until_told(_Worker(settings, settings.rules).run()))
    except PreconditionError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    if code:
        # A consumer thread may hang in a dead connection; the process must end all the same.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


class _Worker:
    def __init__(self, settings: Settings, rules: Path) -> None:
        self._settings = settings
        self._folder = RuleFolder(rules)
        self._tasks: list[asyncio.Task[None]] = []

    async def run(self) -> int:
        """Start everything, run until told to stop, and stop everything."""
        settings = self._settings
        book = self._folder.load()
        store = await self._connect()
        observer = WorkerObserver(book)
        outputs = output_topics(book)
        partitions = check_topics(settings, book)
        check_topic_ids(settings)
        check_erasure_key(settings, begin=True)
        if settings.erasure_key is None:
            log.warning("TSUIDE_ERASURE_KEY is not set: digests of the erased can be guessed")
        settings = settings.model_copy(update={"partitions": partitions})
        clock = make_clock(settings.clock, settings.clock_jump_seconds * 1000)
        await compare_once(clock, store)
        door = Door(partitions, book.custom)
        ledger = Ledger(settings.erasure_key_bytes())
        world = World(store, door, book, Catalog(), clock, observer, settings, ledger)
        followers, erased = await self._read_topics(world, settings)
        app: App

        async def crash(error: BaseException) -> None:
            await app.crash(error)

        marks = StoreMarks(
            settings.kafka_options(), settings.prefix, store, lambda: topic_ids(settings)
        )
        intake = Intake(
            world, lambda: app.sender, outputs, crash, catch_up=erased.catch_up, marks=marks
        )
        app = create_app(settings, intake, TOPICS)
        observer.watch(world, intake, store.patience)
        web = WebServer(settings, lambda: _status(intake, app, clock, store.patience), observer)
        await web.start()
        self._begin(self._guard(watch_clock(clock, store), crash), "clock")
        for follower in followers:
            self._begin(self._guard(follower.follow(), crash), type(follower).__name__)
        self._watch(store, intake, observer, world, crash)
        calm_collector()
        try:
            return await run_app(app)
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            for follower in followers:
                await follower.stop()
            await web.stop()
            await store.close()

    async def _read_topics(
        self, world: World, settings: Settings
    ) -> tuple[list[Follower], LedgerReader]:
        """Read whole what every worker must know before it decides anything."""
        options, prefix, observer = settings.kafka_options(), settings.prefix, world.observer
        catalog = world.catalog
        reader = CatalogReader(options, prefix, catalog, world.door, observer.dead_letter)
        count = await reader.read_whole()
        log.info("catalogue read", records=count, skus=len(catalog.skus()))
        learned = LearnedReader(
            options,
            prefix,
            catalog.learned,
            observer.dead_letter,
            lambda: (world.book, world.clock.now_ms()),
        )
        await learned.read_whole()
        erased = LedgerReader(options, prefix, world.ledger, observer.dead_letter)
        await erased.read_whole()
        return [reader, learned, erased], erased

    async def _connect(self) -> PatientStore:
        settings = self._settings
        try:
            store = await PatientStore.connect(settings.redis_url(), settings.prefix)
        except StoreError as error:
            raise PreconditionError(f"the store does not serve us: {error}") from None
        findings = await store.check_server()
        for finding in findings:
            log.warning("store", finding=finding.text)
        fatal = [finding.text for finding in findings if finding.fatal]
        if fatal:
            raise PreconditionError("; ".join(fatal))
        await store.ensure_functions()
        return store

    def _begin(self, work: Coroutine[Any, Any, None], name: str) -> None:
        self._tasks.append(asyncio.create_task(work, name=name))

    async def _guard(self, work: Coroutine[Any, Any, None], crash: Any) -> None:
        try:
            await work
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001 - whatever it is, it ends the worker
            await crash(error)

    def _watch(
        self,
        store: PatientStore,
        intake: Intake,
        observer: WorkerObserver,
        world: World,
        crash: Any,
    ) -> None:
        """Begin what looks after the worker itself, the store and the rule book."""
        watches = {
            "watchdog": self._watch_stall(intake, store.patience),
            "store": watch_server(store),
            "trims": trim_while_full(store, intake.partitions.values),
            "rules": self._watch_rules(world, observer, intake),
            "topics": watch_topic_ids(lambda: topic_ids(world.settings)),
        }
        for name, work in watches.items():
            self._begin(self._guard(work, crash), name)

    async def _watch_stall(self, intake: Intake, patience: Patience) -> None:
        """End the process when records that may be applied wait and nothing is applied.

        Waiting for the store does not count: another process would wait for it, too.
        """
        most_ms = self._settings.watchdog_seconds * 1000
        while True:
            await asyncio.sleep(_TICK_S)
            for number, partition in intake.partitions.items():
                idle_ms = steady_ms() - max(partition.applied_at, patience.until_ms)
                # What waits for Kafka to take the outbox would wait in the next worker, too.
                held = partition.relay.full or partition.blockers()
                if partition.waiting and not held and idle_ms > most_ms:
                    raise StalledError(
                        f"partition {number}: {partition.waiting} records wait and nothing was "
                        f"applied for {idle_ms // 1000} s"
                    )

    async def _watch_rules(self, world: World, observer: WorkerObserver, intake: Intake) -> None:
        """Swap the book when the folder holds another good one; report a faulty one."""
        others = BookWatch(world.store, world.settings.partitions)
        while True:
            await asyncio.sleep(self._settings.rules_poll_seconds)
            book = await asyncio.to_thread(self._folder.settled)
            if book is not None and book.digest != world.book.digest:
                # Partitions read the book once for each batch, so it changes between two.
                world.use(book)
                observer.book_changed(book)
                log.info("rule book in force", digest=book.digest, rules=len(book.rules))
            observer.book_faults(len(self._folder.faults))
            await others.look(intake.partitions, world.book.digest)
            observer.books_differ(others.differing)


def _status(
    intake: Intake, app: App, clock: Clock, patience: Patience | None = None
) -> dict[str, Any]:
    """What ``/readyz`` answers: ready when partitions are owned and none is held back."""
    partitions = list(intake.partitions.values())
    blocked = sorted({topic for p in partitions for topic in p.blockers()})
    stuck = [topic for topic in blocked if _held_long(intake, topic)]
    store = patience.trouble if patience is not None else ""
    silent = bool(partitions) and 0 < intake.heard_ms < steady_ms() - 5_000
    held = app.rebalancing or stuck or clock.jumped or store or silent
    return {
        "ready": bool(intake.partitions) and not held,
        "partitions": sorted(intake.partitions),
        "blocked": stuck,
        "store": store or "ok",
        "kafka": "silent" if silent else "ok",
        "clock": "jumped" if clock.jumped else "ok",
    }


def _held_long(intake: Intake, topic: str) -> bool:
    """Whether a topic that cannot be fetched has held a partition back for over 5 s."""
    return any(
        topic in partition.blockers() and steady_ms() - partition.applied_at > 5_000
        for partition in intake.partitions.values()
    )
