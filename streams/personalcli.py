"""``tsuide erase`` and ``tsuide export``: what a customer may ask for."""

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
    kafka: Kafka = None,
    redis: Redis = None,
    prefix: Prefix = None,
) -> None:
    """Everything that is kept of a customer, as one JSON object. The output is personal data."""
    from streams.explain import UnknownCustomerError, load_customer
    from streams.personal import check_customer, document, records_of

    settings, customer = _settings(kafka, prefix, redis), check_customer(_id(customer))
    try:
        kept = document(load_customer(settings, customer))
    except UnknownCustomerError:
        kept = {}
    found: dict[str, Any] = {"customer": customer, "document": kept}
    if topics:
        found["records"] = records_of(settings, customer)
    print(json.dumps(found, ensure_ascii=False, indent=1))


def _id(given: str) -> str:
    """An id on the command line is seen by whoever lists processes; standard input is not."""
    return sys.stdin.readline().rstrip("\r\n") if given == "-" else given


def _settings(kafka: str | None, prefix: str | None, redis: str | None) -> Settings:
    from streams.settings import load_settings

    return load_settings(kafka=kafka, prefix=prefix, redis=redis)
