"""``tsuide snapshot``, ``restore`` and ``forget-store``."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from streams.settings import Settings

Json = Annotated[bool, typer.Option("--json", help="The last line is one JSON object.")]
Kafka = Annotated[str | None, typer.Option(help="HOST:PORT of Kafka (TSUIDE_KAFKA).")]
Redis = Annotated[str | None, typer.Option(help="URL of Redis or Valkey (TSUIDE_REDIS).")]
Prefix = Annotated[str | None, typer.Option(help="Stands before every topic's name.")]
Numbers = Annotated[list[int] | None, typer.Option("--partition", min=0, help="Only these.")]


def snapshot(
    out: Annotated[Path, typer.Option(help="The folder for one file a partition.")],
    numbers: Numbers = None,
    redis: Redis = None,
    prefix: Prefix = None,
    as_json: Json = False,
) -> None:
    """Write each partition as it stands between two batches; a replica serves as well."""
    from streams.errors import PreconditionError
    from streams.snapshots import file_of, partitions_stored, server, take, write

    settings = _settings(None, redis, prefix)
    out.mkdir(parents=True, exist_ok=True)
    files, size, longest_s = 0, 0, 0.0
    with server(settings) as client:
        chosen = numbers or partitions_stored(client, settings.prefix)
        if not chosen:
            raise PreconditionError("the store holds no partitions", "run a worker first")
        for number in chosen:
            started = time.perf_counter()
            taken = take(client, number, settings.prefix)
            longest_s = max(longest_s, time.perf_counter() - started)
            if taken is not None:
                files += 1
                size += write(taken, file_of(out, number))
    figures = {"partitions": files, "bytes": size, "longest_ms": round(longest_s * 1000, 1)}
    _print(figures, as_json)


def restore(
    source: Annotated[Path, typer.Option("--from", help="The folder of a snapshot.")],
    numbers: Numbers = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Also where the store holds something.")
    ] = False,
    kafka: Kafka = None,
    redis: Redis = None,
    prefix: Prefix = None,
    as_json: Json = False,
) -> None:
    """Put partitions back; workers then read on from where the snapshot was taken."""
    from streams.errors import UsageError
    from streams.personal import read_ledger
    from streams.snapshots import check, check_log, file_of, put_back, read, server
    from streams.topics import partition_count

    settings = _settings(kafka, redis, prefix)
    paths = [file_of(source, number) for number in numbers or ()] or sorted(
        source.glob("p*.snapshot")
    )
    if not paths:
        raise UsageError(f"--from {source}: there is no snapshot in it")
    partitions = partition_count(settings)
    heads = {}
    for path in paths:
        taken = read(path)
        check(taken, path, settings, partitions)
        heads[path] = taken._replace(values={})
    check_log(settings, heads)
    ledger = read_ledger(settings)
    erased = 0
    with server(settings) as client:
        for path in paths:
            erased += put_back(client, read(path), ledger, replace, path)
    _print({"partitions": len(paths), "erased_left_out": erased}, as_json)


def forget_store(
    numbers: Numbers = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="Timers, caps and carts of these partitions are gone.")
    ] = False,
    kafka: Kafka = None,
    prefix: Prefix = None,
) -> None:
    """Begin anew with an empty store: workers read from the first record that Kafka has."""
    from streams.errors import UsageError
    from streams.snapshots import forget_marks

    if not yes:
        raise UsageError("forget-store: what the store held is gone for good: say --yes")
    count = forget_marks(_settings(kafka, None, prefix), numbers)
    _print({"partitions": count}, False)


def _print(figures: dict[str, float], as_json: bool) -> None:
    if as_json:
        print(json.dumps(figures))
    else:
        print(", ".join(f"{name} {value:,}" for name, value in figures.items()))


def _settings(kafka: str | None, redis: str | None, prefix: str | None) -> Settings:
    from streams.settings import load_settings

    return load_settings(kafka=kafka, redis=redis, prefix=prefix)
