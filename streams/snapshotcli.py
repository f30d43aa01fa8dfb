"""``tsuide snapshot``, ``restore``, ``forget-store`` and ``topics accept``."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

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
    from streams.repair import restore as put_back
    from streams.snapshots import file_of

    settings = _settings(kafka, redis, prefix)
    paths = [file_of(source, number) for number in dict.fromkeys(numbers or ())] or sorted(
        source.glob("p*.snapshot")
    )
    if not paths:
        raise UsageError(f"--from {source}: there is no snapshot in it")
    _print(put_back(settings, paths, replace)._asdict(), as_json)


def forget_store(
    numbers: Numbers = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="Delete all keys of these partitions, for good.")
    ] = False,
    kafka: Kafka = None,
    redis: Redis = None,
    prefix: Prefix = None,
    as_json: Json = False,
) -> None:
    """Begin anew: empty the store; workers read from the first record that Kafka has."""
    from streams.errors import UsageError
    from streams.repair import forget_store as forget

    if not yes:
        raise UsageError(
            "forget-store: what the store holds of these partitions (timers, caps, carts, what was "
            "not sent yet) is deleted for good: say --yes"
        )
    _print(forget(_settings(kafka, redis, prefix), numbers or None)._asdict(), as_json)


def topics_accept(
    topics: Annotated[list[str], typer.Argument(help="Topics in, without prefix: cart ...")],
    read_on: Annotated[
        Literal["first", "stored"],
        typer.Option(
            "--read-on",
            help="From the first record that Kafka has, or from the stored offsets: only where "
            "the old records were brought back under their old offsets.",
        ),
    ],
    kafka: Kafka = None,
    redis: Redis = None,
    prefix: Prefix = None,
    as_json: Json = False,
) -> None:
    """Accept topics in that were deleted and made anew; what is known of customers stays."""
    from streams.repair import accept_topics

    accepted = sorted(set(topics))
    partitions = accept_topics(_settings(kafka, redis, prefix), accepted, read_on)
    _print({"topics": len(accepted), "partitions": partitions}, as_json)


def _print(figures: dict[str, float], as_json: bool) -> None:
    if as_json:
        print(json.dumps(figures))
    else:
        print(", ".join(f"{name} {value:,}" for name, value in figures.items()))


def _settings(kafka: str | None, redis: str | None, prefix: str | None) -> Settings:
    from streams.settings import load_settings

    return load_settings(kafka=kafka, redis=redis, prefix=prefix)
