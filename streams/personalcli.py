"""``tsuide erase`` and ``tsuide export``: what a customer may ask for; and two commands for who
looks after the ledger of the erased."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from streams.settings import Settings

Json = Annotated[bool, typer.Option("--json", help="The last line is one JSON object.")]
Kafka = Annotated[str | None, typer.Option(help="HOST:PORT of Kafka (TSUIDE_KAFKA).")]
Redis = Annotated[str | None, typer.Option(help="URL of Redis or Valkey (TSUIDE_REDIS).")]
Prefix = Annotated[str | None, typer.Option(help="Stands before every topic's name.")]
Customer = Annotated[str, typer.Argument(help="The customer's id; - reads it from standard input.")]


def erase(
    customer: Customer,
    objected: Annotated[
        bool, typer.Option("--objected", help="Not an erasure, but an objection to marketing.")
    ] = False,
    wait: Annotated[
        float, typer.Option(min=0, max=3600, help="Seconds to wait until it is carried out.")
    ] = 0,
    kafka: Kafka = None,
    prefix: Prefix = None,
    as_json: Json = False,
) -> None:
    """Erase a customer, or pass on that one objects; prints a receipt once Kafka has it."""
    from streams.personal import request, wait_until_told

    settings, customer = _settings(kafka, prefix, None), _id(customer)
    receipt = request(settings, customer, "object" if objected else "erase")
    done = bool(wait) and wait_until_told(settings, customer, receipt, wait) is not None
    place = f"customer/{receipt.partition}/{receipt.offset}"
    if as_json:
        print(json.dumps({"receipt": receipt.id, "place": place, "carried_out": done}))
    else:
        state = "carried out" if done else "accepted"
        print(f"{state}: receipt {receipt.id}, {place}")
    if wait and not done:
        print(f"not carried out within {wait:g} s: is a worker running?", file=sys.stderr)
        raise typer.Exit(1)


def export(
    customer: Customer,
    topics: Annotated[
        bool, typer.Option("--topics", help="Also what our topics still hold of them.")
    ] = False,
    limit: Annotated[
        int, typer.Option(min=1, max=10_000_000, help="Most records of one topic.")
    ] = 10_000,
    kafka: Kafka = None,
    redis: Redis = None,
    prefix: Prefix = None,
) -> None:
    """Everything that is kept of a customer, as one JSON object. The output is personal data."""
    from streams.explain import UnknownCustomerError, load_customer
    from streams.exporting import document, records_of
    from streams.personal import check_customer

    settings, customer = _settings(kafka, prefix, redis), check_customer(_id(customer))
    try:
        kept = document(load_customer(settings, customer))
    except UnknownCustomerError:
        kept = {}
    found: dict[str, Any] = {"customer": customer, "document": kept}
    if topics:
        records, left_out = records_of(settings, customer, limit)
        found |= {"records": records, "truncated": bool(left_out), "left_out": left_out}
        for name, count in left_out.items():
            print(f"{name}: {count} more records: give a higher --limit", file=sys.stderr)
    text = json.dumps(found, ensure_ascii=False, indent=1)
    # A lone surrogate, which no terminal takes, stays the escape that it was.
    print(text.encode(errors="backslashreplace").decode())


def carry_erased(
    source: Annotated[str, typer.Option("--from", help="The prefix of the topics before.")],
    kafka: Kafka = None,
    prefix: Prefix = None,
    as_json: Json = False,
) -> None:
    """Carry the ledger of the erased over from another prefix; before workers start on this one."""
    from streams.personal import carry_over

    count = carry_over(_settings(kafka, source, None), _settings(kafka, prefix, None))
    print(json.dumps({"carried": count}) if as_json else f"carried: {count}")


def forget_erasure_key(
    yes: Annotated[
        bool, typer.Option("--yes", help="All workers are stopped, and get another key now.")
    ] = False,
    kafka: Kafka = None,
    prefix: Prefix = None,
) -> None:
    """Let the next worker begin with another TSUIDE_ERASURE_KEY; only while nobody is erased."""
    from streams import erasurekey
    from streams.errors import PreconditionError, UsageError
    from streams.personal import nobody_erased

    if not yes:
        raise UsageError("forget-erasure-key: stop all workers first, then say --yes")
    settings = _settings(kafka, prefix, None)
    if not nobody_erased(settings):
        raise PreconditionError(
            "somebody is erased under the key of before, and would come back under another",
            "see the runbook on another erasure key",
        )
    erasurekey.forget_erasure_key(settings)
    print("forgotten: the next worker notes the key that it has")


def _id(given: str) -> str:
    """An id on the command line is seen by whoever lists processes; standard input is not."""
    return sys.stdin.readline().rstrip("\r\n") if given == "-" else given


def _settings(kafka: str | None, prefix: str | None, redis: str | None) -> Settings:
    from streams.settings import load_settings

    return load_settings(kafka=kafka, prefix=prefix, redis=redis)
