"""Turns shopping trips into the steps of carts, checkouts, purchases and refunds, with their times.

The history knows when a receipt was printed, not when each thing was taken: what happened before is
filled in here, the same way on every run, from digests of the ids.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from history import ZONE, History, share

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS

# Filled in the evening and bought the day after: a cart that was abandoned, but not for good.
OVERNIGHT_SHARE = 0.04
BROWSE_SHARE = 0.06  # a cart of the day before that is never bought
SECOND_THOUGHT_SHARE = 0.03  # one too many, taken out again
REFUND_SHARE = 0.012
FILL_MS_MAX = 50 * MINUTE_MS  # below an hour, so that a cart in use is never silent for long
FILLED = 0.82  # of the time before the purchase; then checkout and payment
STARTED = 0.88
PAYMENT = 0.95


class Steps(NamedTuple):
    """Tables of steps; `cart` is the id of a cart as text, times are milliseconds since 1970."""

    # at_ms, household, cart, step, added, product, quantity, unit_price, subtotal
    cart: pd.DataFrame
    checkout: pd.DataFrame  # at_ms, household, cart, payment, total
    purchase: pd.DataFrame  # at_ms, household, trip, subtotal, coupon
    refund: pd.DataFrame  # at_ms, household, trip, total (0: the whole order)


def _timed_trips(history: History) -> pd.DataFrame:
    """Return the trips with `fill_ms` (when the cart was begun) and `span_ms`."""
    trips = history.trips.copy()
    ids = trips.index.to_numpy()
    size = history.lines.groupby("trip").size()
    trips["size"] = size.reindex(trips.index)
    unhurried = 90_000 + trips["size"] * (20_000 + 30_000 * share(ids, 10))
    since = (trips["bought_ms"] - trips["previous_ms"]) * 0.9
    span = np.minimum(np.minimum(unhurried, FILL_MS_MAX), since).astype(np.int64)
    trips["span_ms"] = span
    trips["fill_ms"] = trips["bought_ms"] - span
    local = pd.to_datetime(trips["bought_ms"], unit="ms", utc=True).dt.tz_convert(ZONE)
    # Seven in the evening by the clock on the wall, on both sides of a change of the clocks.
    wall = local.dt.tz_localize(None).dt.normalize() - pd.Timedelta("5h")
    evening = wall.dt.tz_localize(ZONE).dt.tz_convert("UTC").dt.tz_localize(None)
    evening_ms = evening.astype("datetime64[ms]").astype(np.int64)
    evening_ms += (share(ids, 11) * 2 * HOUR_MS).astype(np.int64)
    trips["overnight"] = (share(ids, 12) < OVERNIGHT_SHARE) & (
        evening_ms > trips["previous_ms"] + HOUR_MS
    )
    trips.loc[trips["overnight"], "fill_ms"] = evening_ms
    begun = trips["bought_ms"] - DAY_MS - (share(ids, 13) * 6 * HOUR_MS).astype(np.int64)
    trips["browse_ms"] = begun
    trips["browse"] = (
        (share(ids, 14) < BROWSE_SHARE)
        & ~trips["overnight"]
        & (begun > trips["previous_ms"] + 3 * HOUR_MS)
    )
    return trips


def _laid_out(lines: pd.DataFrame, salt: int) -> pd.DataFrame:
    """Number the steps of each cart, time them over its span and add up the subtotals.

    Each step lies somewhere in its own slice of the span, so times inside a cart only rise.
    """
    lines = lines.sort_values(["cart", "rank"], ignore_index=True)
    carts = lines.groupby("cart")
    lines["step"] = carts.cumcount() + 1
    steps = carts["step"].transform("size")
    within = 0.05 + 0.9 * share(lines["trip"] * 1000 + lines["step"], salt)
    offset = lines["span_ms"] * FILLED * (lines["step"] - 1 + within) / steps
    lines["at_ms"] = lines["fill_ms"] + offset.astype(np.int64)
    signed = lines["quantity"] * lines["unit_price"] * np.where(lines["added"], 1, -1)
    lines["subtotal"] = signed.groupby(lines["cart"]).cumsum()
    return lines


def _bought_carts(lines: pd.DataFrame, trips: pd.DataFrame) -> pd.DataFrame:
    lines = lines.join(trips[["household", "fill_ms", "span_ms", "size"]], on="trip")
    lines["added"] = True
    chosen = (lines["rank"] == lines["size"] // 2) & (lines["size"] > 1)
    extra = lines[chosen & (share(lines["trip"], 15) < SECOND_THOUGHT_SHARE)]
    put = extra.assign(quantity=1, rank=extra["rank"] + 0.3)
    taken = extra.assign(quantity=1, rank=extra["rank"] + 0.6, added=False)
    lines = pd.concat([lines, put, taken], ignore_index=True)
    lines["cart"] = "c" + lines["trip"].astype(str)
    return _laid_out(lines, 16)


def _browse_carts(lines: pd.DataFrame, trips: pd.DataFrame) -> pd.DataFrame:
    """Return small carts of the day before, of things that are bought in the end, elsewhere."""
    kept = 1 + (share(trips.index.to_numpy(), 17) * 5).astype(np.int64)
    chosen = trips.assign(kept=kept)[trips["browse"]]
    columns = chosen[["household", "browse_ms", "kept"]]
    lines = lines.join(columns, on="trip", how="inner")
    lines = lines[lines["rank"] < lines["kept"]].rename(columns={"browse_ms": "fill_ms"})
    lines = lines.assign(span_ms=lines["kept"] * 2 * MINUTE_MS, added=True)
    lines["cart"] = "b" + lines["trip"].astype(str)
    return _laid_out(lines, 18)


def _checkouts(trips: pd.DataFrame, browsed: pd.DataFrame) -> pd.DataFrame:
    """Return the two steps of each checkout; of the abandoned carts a third gets that far."""
    bought = pd.DataFrame(
        {
            "cart": "c" + trips.index.astype(str),
            "household": trips["household"].to_numpy(),
            "total": trips["subtotal"].to_numpy(),
            "fill_ms": (trips["bought_ms"] - trips["span_ms"]).to_numpy(),
            "span_ms": trips["span_ms"].to_numpy(),
            "reaches": 0.0,
        }
    )
    left = browsed.groupby("cart").last().reset_index()
    left["total"] = left["subtotal"]
    left["reaches"] = share(left["trip"], 19)
    left = left[left["reaches"] < 1 / 3]
    steps = []
    for payment, part, reach in ((False, STARTED, 1 / 3), (True, PAYMENT, 1 / 6)):
        for table in (bought, left[bought.columns]):
            here = table[table["reaches"] < reach]
            at_ms = here["fill_ms"] + (here["span_ms"] * part).astype(np.int64)
            steps.append(here.assign(at_ms=at_ms, payment=payment))
    return pd.concat(steps, ignore_index=True)


def _refunds(lines: pd.DataFrame, trips: pd.DataFrame) -> pd.DataFrame:
    """Return the refunds: within six days, half of them of the whole order."""
    ids = trips.index.to_numpy()
    late = DAY_MS // 4 + (share(ids, 20) * 6 * DAY_MS).astype(np.int64)
    refunds = trips.assign(at_ms=trips["bought_ms"] + late, trip=ids)[share(ids, 21) < REFUND_SHARE]
    first = lines[lines["rank"] == 0].set_index("trip")["unit_price"]
    part = first.reindex(refunds.index)
    whole = (share(refunds.index.to_numpy(), 22) < 0.5) | (part >= refunds["total"])
    refunds = refunds.assign(total=part.where(~whole, 0)).reset_index(drop=True)
    return refunds[["at_ms", "household", "trip", "total"]]


def steps_of(history: History) -> Steps:
    """Return everything that happens in the shop, each table in order of time."""
    trips = _timed_trips(history)
    lines = history.lines
    amount = lines["quantity"] * lines["unit_price"]
    trips["subtotal"] = amount.groupby(lines["trip"]).sum().reindex(trips.index)
    trips["coupon"] = np.minimum(trips["coupon"], trips["subtotal"])
    trips["total"] = trips["subtotal"] - trips["coupon"]
    browsed = _browse_carts(lines, trips)
    cart = pd.concat([_bought_carts(lines, trips), browsed], ignore_index=True)
    purchase = trips.reset_index().rename(columns={"bought_ms": "at_ms"})
    return Steps(
        cart.sort_values(["at_ms", "cart", "step"], ignore_index=True),
        _checkouts(trips, browsed).sort_values(["at_ms", "cart", "payment"], ignore_index=True),
        purchase.sort_values(["at_ms", "trip"], ignore_index=True),
        _refunds(lines, trips).sort_values(["at_ms", "trip"], ignore_index=True),
    )
