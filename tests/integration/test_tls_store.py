"""A store server TLS: who is trusted, who is not, and what is said of it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from streams.demo import worker_environment
from streams.embedded import EmbeddedStore
from streams.errors import PreconditionError
from streams.settings import Settings, load_settings
from streams.snapshots import server as snapshot_server
from streams.store import Store
from streams.store.errors import StoreUnavailable
from streams.store.patience import PatientStore
from tests.authority import Authority, TlsDoor
from tests.integration.pipeline import RULES
from tests.integration.stores import opened_at, run


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def door(authority: Authority, server: EmbeddedStore) -> Iterator[TlsDoor]:
    with TlsDoor(server.port, authority.server_context("localhost")) as made:
        yield made


def settings_for(door: TlsDoor, host: str = "localhost", **files: Path) -> Settings:
    return load_settings(redis=f"rediss://{host}:{door.port}/0", **files)


def refusal(settings: Settings) -> str:
    """What a command is told when it may not have the store."""

    async def connect() -> str:
        with pytest.raises(StoreUnavailable) as caught:
            await Store.connect(settings.redis_url())
        assert caught.value.code == "TLS"
        return str(caught.value)

    return run(connect())


def test_a_store_is_used_by_tls_when_its_authority_is_given(
    door: TlsDoor, authority: Authority
) -> None:
    settings = settings_for(door, redis_cafile=authority.cafile)

    async def use() -> list[str]:
        async with opened_at(settings.redis_url()) as store:
            return [finding.text for finding in await store.check_server() if finding.fatal]

    assert run(use()) == []
    with snapshot_server(settings) as client:
        assert client.ping()


def test_a_certificate_of_an_unknown_authority_is_refused(door: TlsDoor, tmp_path: Path) -> None:
    for settings in (
        settings_for(door),
        settings_for(door, redis_cafile=Authority(tmp_path).cafile),
    ):
        told = refusal(settings)
        assert f"localhost:{door.port}" in told
        assert "its certificate is refused: unable to get local issuer certificate" in told
        with (
            pytest.raises(PreconditionError, match="its certificate is refused"),
            snapshot_server(settings) as client,
        ):
            client.ping()


def test_a_certificate_of_another_name_is_refused(door: TlsDoor, authority: Authority) -> None:
    told = refusal(settings_for(door, "127.0.0.1", redis_cafile=authority.cafile))
    assert "certificate is not valid for '127.0.0.1'" in told


def test_a_store_that_wants_a_certificate_gets_ours(
    server: EmbeddedStore, authority: Authority
) -> None:
    certificate, key = authority.issue("worker")
    with TlsDoor(server.port, authority.server_context("localhost", mutual=True)) as mutual:
        ours = settings_for(
            mutual,
            redis_cafile=authority.cafile,
            redis_certfile=certificate,
            redis_keyfile=key,
        )

        async def use() -> int | None:
            async with opened_at(ours.redis_url()) as store:
                return await store.server_ms()

        assert run(use())
        told = refusal(settings_for(mutual, redis_cafile=authority.cafile))
        assert "does it want a certificate of ours?" in told


def test_a_certificate_that_runs_out_is_waited_for_and_its_successor_taken(
    server: EmbeddedStore, authority: Authority
) -> None:
    context = authority.server_context("localhost")

    async def run_out(url: str) -> None:
        store = await PatientStore.connect(url)
        context.load_cert_chain(*authority.issue("elsewhere"))
        await store.look_anew()
        asked = asyncio.create_task(store.server_ms())
        while store.patience.trouble != "TLS":
            assert not asked.done()
            await asyncio.sleep(0.01)
        context.load_cert_chain(*authority.issue("localhost"))
        assert await asked
        await store.close()

    with TlsDoor(server.port, context) as door:
        run(run_out(settings_for(door, redis_cafile=authority.cafile).redis_url()))


def test_a_worker_that_does_not_trust_the_store_ends_and_says_why(
    door: TlsDoor, authority: Authority, tmp_path: Path
) -> None:
    settings = load_settings(
        redis=f"rediss://u:a%20secret@127.0.0.1:{door.port}/0",
        redis_cafile=authority.cafile,
        rules=RULES,
        data_dir=tmp_path,
    )
    done = subprocess.run(
        [sys.executable, "-m", "streams.cli", "worker"],
        env=worker_environment(settings) | {"TSUIDE_REDIS_PASSWORD": "a secret"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(
        f"the store does not serve us: TLS: no connection to 127.0.0.1:{door.port}"
    )
    assert "certificate is not valid for '127.0.0.1'" in last
    assert "secret" not in done.stdout + done.stderr
