"""The shipped users of Redis: each can do its work, and nothing else."""

from __future__ import annotations

import asyncio
import hashlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from streams.embedded import EmbeddedStore
from streams.erasure import Entry, Ledger
from streams.outbox import pack
from streams.poison import Care
from streams.repair import read_from_first
from streams.snapshots import keys_of, put_back, take
from streams.store import Store
from streams.store.errors import FunctionsMissing, StoreError
from streams.store.keys import partition_keys
from tests.integration.bench import Bench, Log, StandingClock
from tests.integration.stores import run
from tests.unit.harness import DAY, NOON, SECOND, make_book

DEPLOY = Path(__file__).parents[2] / "deploy" / "redis"
NAMES = ("worker", "admin", "reader", "restore")


def password(name: str) -> str:
    return f"a password of {name}"


def url(server: EmbeddedStore, name: str) -> str:
    secret = password(name).replace(" ", "%20")
    return server.url.replace("redis://", f"redis://tsuide-{name}:{secret}@")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedStore]:
    folder = tmp_path_factory.mktemp("users")
    for name in NAMES:
        (folder / name).write_text(password(name) + "\n")
    made = subprocess.run([DEPLOY / "make-users", folder], capture_output=True, check=True)
    users = folder / "users.acl"
    users.write_bytes(made.stdout)
    assert password("worker").encode() not in made.stdout
    assert hashlib.sha256(password("worker").encode()).hexdigest().encode() in made.stdout
    with EmbeddedStore(folder / "store", options={"aclfile": str(users)}) as running:
        yield running


def client(server: EmbeddedStore, name: str) -> redis.Redis:
    return redis.Redis.from_url(url(server, name), protocol=2)


def test_a_user_without_a_password_file_stays_off(tmp_path: Path) -> None:
    (tmp_path / "worker").write_text("only this one")
    made = subprocess.run([DEPLOY / "make-users", tmp_path], capture_output=True, check=True)
    lines = made.stdout.decode().splitlines()
    assert [line.split()[1:3] for line in lines] == [
        ["default", "off"],
        ["tsuide-worker", "on"],
        ["tsuide-admin", "off"],
        ["tsuide-reader", "off"],
        ["tsuide-restore", "off"],
    ]


def test_nobody_comes_in_without_a_name(server: EmbeddedStore) -> None:
    with (
        redis.Redis.from_url(server.url, protocol=2) as nobody,
        pytest.raises(redis.AuthenticationError),
    ):
        nobody.ping()


def test_the_admin_loads_the_library_and_the_worker_does_all_its_work(
    server: EmbeddedStore,
) -> None:
    log = Log(1)
    log.event("consent.granted", "ann", NOON, {"channel": "*"}, "g")
    item = {"sku": "s", "quantity": 1, "unit_price": 500}
    cart = {"cart_id": "k", "item": item, "subtotal": 1, "currency": "JPY"}
    log.event("cart.item_added", "ann", NOON + SECOND, cart, "e")
    book = make_book(
        {"id": "now", "on": "cart.item_added"},
        {"id": "week", "kind": "follow_up", "on": "cart.item_added", "after": "7d"},
    )

    async def body() -> Bench:
        worker = await Store.connect(url(server, "worker"))
        with pytest.raises((FunctionsMissing, StoreError)):
            await worker.ensure_functions()
        admin = await Store.connect(url(server, "admin"))
        await admin.ensure_functions()
        await admin.close()
        await worker.ensure_functions()
        assert not [finding for finding in await worker.check_server() if finding.fatal]
        assert await worker.server_ms() is not None
        bench = Bench(worker, book, log, StandingClock())
        await bench.run(NOON + 30 * DAY)
        care = await Care.begin(worker, 0, 1, 100, asyncio.Lock())
        await care.end()
        await worker.identify(0, "here")
        assert await worker.identity(0) == "here"
        await worker.pending(0)
        await worker.outbox_size(0)
        await worker.close()
        return bench

    bench = run(body())
    assert len(bench.outcome.offers) == 2


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "command",
    [
        ("FLUSHALL",), ("FLUSHDB",), ("KEYS", "*"), ("CONFIG", "SET", "maxmemory", "1"),
        ("SAVE",), ("EVAL", "return 1", "0"), ("SCAN", "0"), ("ACL", "LIST"),
        ("SHUTDOWN", "NOSAVE"), ("REPLICAOF", "NO", "ONE"), ("SET", "mine", "1"),
        ("GET", "mine"), ("HGETALL", "other:{p1}"), ("MODULE", "LIST"), ("SCRIPT", "FLUSH"),
        ("FUNCTION", "FLUSH"), ("MONITOR",), ("CLIENT", "LIST"), ("PUBLISH", "a", "b"),
    ],
)  # fmt: skip
def test_none_of_them_may_do_anything_else(
    server: EmbeddedStore, name: str, command: tuple[str, ...]
) -> None:
    with client(server, name) as user, pytest.raises(redis.exceptions.NoPermissionError):
        user.execute_command(*command)


def test_the_worker_may_not_change_the_library(server: EmbeddedStore) -> None:
    with client(server, "worker") as user, pytest.raises(redis.exceptions.NoPermissionError):
        user.function_load("#!lua name=x\nredis.register_function('x', function() end)")


def test_the_reader_takes_snapshots_and_writes_nothing_and_restore_puts_them_back(
    server: EmbeddedStore, tmp_path: Path
) -> None:
    with client(server, "reader") as reader, client(server, "restore") as restore:
        taken = take(reader, 0, "")
        assert taken is not None
        with pytest.raises(redis.exceptions.NoPermissionError):
            reader.execute_command("HSET", "{p0}:meta", "token", "mine")
        ledger = Ledger(b"k")
        ledger.take(ledger.digest("c1"), Entry("erased", 1, 1))
        restore.xadd(partition_keys(0, "").outbox, {"r": pack([])})
        taken = take(reader, 0, "")
        assert taken is not None
        put_back(restore, taken, ledger, True, tmp_path)
        again = take(reader, 0, "")
        assert again is not None
        assert again.head["offsets"] == taken.head["offsets"]
        read_from_first(restore, 0, "", ["cart"])  # tsuide topics accept
        assert restore.delete(*keys_of(0, "").values()) > 0  # tsuide forget-store
        assert take(reader, 0, "") is None
