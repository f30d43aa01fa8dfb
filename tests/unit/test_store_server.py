"""Which servers may hold our state."""

from __future__ import annotations

import pytest

from streams.store.errors import Fenced, StoreError, StoreFull, error_for
from streams.store.server import check_info, parse_info

GOOD = {
    "redis_version": "7.2.4",
    "valkey_version": "9.1.2",
    "role": "master",
    "redis_mode": "standalone",
    "maxmemory_policy": "noeviction",
    "maxmemory": "1000000",
    "aof_enabled": "1",
    "aof_last_write_status": "ok",
}


def found(**changes: str) -> list[tuple[bool, str]]:
    return [(finding.fatal, finding.code) for finding in check_info({**GOOD, **changes})]


def redis(version: str) -> list[tuple[bool, str]]:
    info = {**GOOD, "redis_version": version}
    del info["valkey_version"]
    return [(finding.fatal, finding.code) for finding in check_info(info)]


def test_a_good_server_has_no_findings() -> None:
    assert found() == []


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl", ""])
def test_a_server_that_evicts_is_refused(policy: str) -> None:
    assert found(maxmemory_policy=policy) == [(True, "eviction")]


def test_what_is_unwise_is_a_warning() -> None:
    assert found(maxmemory="0") == [(False, "maxmemory")]
    assert found(aof_enabled="0") == [(False, "aof")]
    assert found(redis_mode="cluster") == [(False, "cluster")]


def test_what_cannot_write_is_refused() -> None:
    assert found(role="slave") == [(True, "replica")]
    assert found(aof_last_write_status="err") == [(True, "aof_write")]


@pytest.mark.parametrize("version", ["7.2.12", "7.4.8", "8.0.6", "8.2.5", "8.4.2", "8.6.2"])
def test_a_redis_with_known_holes_is_a_warning(version: str) -> None:
    assert redis(version) == [(False, "security")]


@pytest.mark.parametrize("version", ["7.4.9", "8.2.6", "8.4.10", "8.6.3", "8.8.0", "9.0.0-rc1"])
def test_a_redis_at_or_above_its_floor_is_good(version: str) -> None:
    assert redis(version) == []


@pytest.mark.parametrize("version", ["7.0.15", "6.2.20", "", "unknown", "8"])
def test_a_redis_without_our_commands_is_refused(version: str) -> None:
    assert redis(version) == [(True, "version")]


def test_valkey_is_judged_by_its_own_version() -> None:
    assert found(valkey_version="7.2.9") == [(True, "version")]
    assert found(valkey_version="8.0.9") == [(False, "security")]
    assert found(valkey_version="9.1.0") == [(False, "security")]
    assert found(valkey_version="8.1.9") == []
    assert found(valkey_version="10.0.0") == []


def test_fatal_findings_come_first() -> None:
    assert found(maxmemory="0", aof_enabled="0", role="slave")[0] == (True, "replica")


def test_info_is_read_by_lines() -> None:
    assert parse_info("# Server\r\nrole:master\r\nkeys=1:a:b\r\n\r\n") == {
        "role": "master",
        "keys=1": "a:b",
    }


def test_an_error_has_our_text_and_never_the_server_s() -> None:
    assert isinstance(error_for("FENCED"), Fenced)
    assert isinstance(error_for("OOM"), StoreFull)
    assert str(error_for("SOMETHING")) == "SOMETHING: the server refused the call"
    assert type(error_for("SOMETHING")) is StoreError
