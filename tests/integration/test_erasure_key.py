"""The key of the ledger of the erased is noticed when it is another one; the ledger moves house."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaProducer
from pydantic import SecretStr
from typer.testing import CliRunner, Result

from streams import erasurekey
from streams.cli import app
from streams.embedded import EmbeddedKafka, EmbeddedStore
from streams.erasure import Entry, Ledger
from streams.erasurekey import ErasureKeyError, check_erasure_key, code_of, read_code
from streams.errors import PreconditionError, UsageError
from streams.exporting import records_of
from streams.personal import read_ledger, request, wait_until_told
from streams.scanning import reader, scan
from streams.settings import Settings, load_settings
from streams.topics import create_topics
from tests.integration.pipeline import Pipeline

pytestmark = pytest.mark.timeout(120)

ONE, OTHER = "one key of the tests, long", "another key of the tests"


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with EmbeddedKafka(tmp_path_factory.mktemp("broker")) as kafka:
        yield kafka.address


def made(broker: str, key: str | None = ONE, prefix: str = "") -> Settings:
    """Settings with topics of their own."""
    prefix = prefix or f"k{time.monotonic_ns()}-"
    settings = load_settings(kafka=broker, prefix=prefix, partitions=2, erasure_key=key)
    create_topics(settings, partitions=2)
    return settings


def under(settings: Settings, key: str | None) -> Settings:
    return load_settings(
        kafka=settings.kafka, prefix=settings.prefix, partitions=2, erasure_key=key
    )


def control(settings: Settings) -> list[tuple[bytes | None, bytes | None]]:
    with reader(settings, "test") as consumer:
        records = scan(consumer, settings.topic("control"), 0)
        return [(record.key, record.value) for record in records]


def tell(settings: Settings, customer: str, entry: Entry) -> None:
    ledger = Ledger(settings.erasure_key_bytes())
    told = ledger.record(ledger.digest(customer), entry)
    producer = KafkaProducer(bootstrap_servers=settings.kafka, acks="all")
    producer.send(settings.topic("erased"), key=told.key, value=told.value).get(10)
    producer.close()


def command(monkeypatch: pytest.MonkeyPatch, settings: Settings, *words: str) -> Result:
    key = settings.erasure_key
    if key is None:
        monkeypatch.delenv("TSUIDE_ERASURE_KEY", raising=False)
    else:
        monkeypatch.setenv("TSUIDE_ERASURE_KEY", key.get_secret_value())
    where = ["--kafka", settings.kafka, "--prefix", settings.prefix]
    return CliRunner().invoke(app, [*words, *where])


def test_the_first_worker_notes_the_key_and_every_other_one_is_refused(broker: str) -> None:
    settings = made(broker)
    assert not check_erasure_key(settings), "a command notes nothing"
    assert control(settings) == []
    assert check_erasure_key(settings, begin=True)
    assert check_erasure_key(settings, begin=True)
    assert len(control(settings)) == 1
    assert not any(ONE.encode() in (value or b"") for _, value in control(settings))
    for key, said in ((OTHER, "is another one than before"), (None, "is not set")):
        with pytest.raises(ErasureKeyError, match=said):
            check_erasure_key(under(settings, key), begin=True)


def test_a_key_that_comes_after_a_beginning_without_one_is_refused(broker: str) -> None:
    settings = made(broker, None)
    assert check_erasure_key(settings, begin=True)
    with pytest.raises(ErasureKeyError, match="begun without a key"):
        check_erasure_key(under(settings, ONE))


def test_of_two_workers_that_begin_at_once_one_is_refused_for_good(
    broker: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = made(broker)
    late, note = under(settings, OTHER), erasurekey._note

    def overtaken(of: Settings, value: bytes | None) -> None:
        monkeypatch.setattr(erasurekey, "_note", note)
        check_erasure_key(settings, begin=True)  # after the other looked, and before it noted
        note(of, value)

    monkeypatch.setattr(erasurekey, "_note", overtaken)
    with pytest.raises(ErasureKeyError):
        check_erasure_key(late, begin=True)
    records = control(settings)
    assert read_code(records[-1:]) == code_of(ONE.encode()), "compaction keeps the last"
    assert check_erasure_key(settings)


def test_commands_that_read_the_ledger_refuse_another_key(
    broker: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = made(broker)
    check_erasure_key(settings, begin=True)
    for ask in (read_ledger, lambda wrong: records_of(wrong, "ann")):  # `restore`, `export`
        ask(settings)
        with pytest.raises(ErasureKeyError):
            ask(under(settings, OTHER))
    for words in (
        ("erase", "ann"),
        ("erase", "ann", "--objected"),
        ("dead-letters", "replay", "--reason", "crashed"),
    ):
        assert command(monkeypatch, settings, *words).exit_code == 0, words
        found = command(monkeypatch, under(settings, OTHER), *words)
        assert isinstance(found.exception, ErasureKeyError), (words, found.output)


def test_a_worker_with_another_key_does_not_start_and_doctor_says_why(
    broker: str, tmp_path: Path
) -> None:
    with EmbeddedStore(tmp_path / "store") as store:
        pipeline = Pipeline(broker, store.url, tmp_path)
        try:
            first = pipeline.start_worker()
            first.wait_until_ready()
            assert first.stop() == 0
            assert first.log.read_text().count("TSUIDE_ERASURE_KEY is not set") == 1
            asked = pipeline.tsuide("doctor")
            assert asked.returncode == 0, asked.stdout
            assert "TSUIDE_ERASURE_KEY is not set" in asked.stdout
            keyed = {"erasure_key": SecretStr(ONE)}
            pipeline.settings = pipeline.settings.model_copy(update=keyed)
            second = pipeline.start_worker()
            assert second.process.wait(60) == 1
            assert "the ledger of the erased was begun without a key" in second.log.read_text()
            asked = pipeline.tsuide("doctor")
            assert asked.returncode == 1
            assert "FAIL erasures: TSUIDE_ERASURE_KEY is set" in asked.stdout
            # Nobody is erased yet: the key may still be set.
            assert pipeline.tsuide("forget-erasure-key").returncode == 2, "it wants to hear --yes"
            assert pipeline.tsuide("forget-erasure-key", "--yes").returncode == 0
            third = pipeline.start_worker()
            third.wait_until_ready()
            assert third.stop() == 0
            assert "TSUIDE_ERASURE_KEY" not in third.log.read_text()
        finally:
            pipeline.close()


def test_a_key_under_which_somebody_is_erased_is_not_forgotten(
    broker: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = made(broker)
    check_erasure_key(settings, begin=True)
    tell(settings, "ann", Entry("erased", 100, 7))
    found = command(monkeypatch, under(settings, OTHER), "forget-erasure-key", "--yes")
    assert isinstance(found.exception, PreconditionError)
    assert check_erasure_key(settings)


def test_s24_the_ledger_is_carried_over_to_another_prefix(
    broker: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = made(broker), made(broker)
    check_erasure_key(old, begin=True)
    tell(old, "ann", Entry("erased", 100, 5_000))
    tell(old, "bob", Entry("erased", 100, 6_000))
    tell(old, "bob", Entry("returned", 200, 6_001))
    tell(new, "cid", Entry("erased", 300, 1))  # the new topics know better
    tell(old, "cid", Entry("returned", 250, 9))

    def carry() -> Any:
        return command(monkeypatch, new, "carry-erased", "--from", old.prefix, "--json")

    assert carry().stdout == '{"carried": 2}\n'
    assert check_erasure_key(new), "a worker with another key is refused there, too"
    ledger = read_ledger(new)
    told = {name: ledger.of(name) for name in ("ann", "bob", "cid", "dan")}
    # With the offsets of the old topic: of records with lower ones in the new, the time decides.
    assert told == {
        "ann": Entry("erased", 100, 5_000),
        "bob": Entry("returned", 200, 6_001),
        "cid": Entry("erased", 300, 1),
        "dan": None,
    }
    assert carry().stdout == '{"carried": 0}\n'
    # What was carried answers no request of today.
    receipt = request(new, "bob", "erase")
    assert wait_until_told(new, "bob", receipt, 0) is None
    tell(new, "bob", Entry("erased", receipt.at_ms, receipt.offset))
    assert wait_until_told(new, "bob", receipt, 0) is not None
    tell(old, "ann", Entry("returned", 400, 7_000))
    assert carry().stdout == '{"carried": 1}\n'
    same = command(monkeypatch, old, "carry-erased", "--from", old.prefix)
    assert isinstance(same.exception, UsageError)
    other = under(new, OTHER)
    refused = command(monkeypatch, other, "carry-erased", "--from", old.prefix)
    assert isinstance(refused.exception, ErasureKeyError)
