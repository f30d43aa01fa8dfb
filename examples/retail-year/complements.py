"""Finds complements: what is bought together, by lift over the trips of half a year."""

from __future__ import annotations

import numpy as np
import pandas as pd
from history import History

HALF_YEAR_MS = 1_498_881_600_000  # 2017-07-01T04:00Z, midnight in New York; later is unseen
TRIPS_MIN = 10  # of a product
HOUSEHOLDS_MIN = 3  # that took both on one trip: one household's habit is no complement
SMOOTHING = 3  # trips added to both sides of the lift, or the rarest pairs would always lead
LIFT_MIN = 1.3
EACH_MAX = 5  # complements of one product

# Nobody wants to be pushed these, and some must not be advertised at all.
NEVER_OFFERED = frozenset(
    {
        "adult-incontinence", "beers-ales", "cigarettes", "cigars", "domestic-wine",
        "family-planning", "feminine-hygiene", "fireworks", "imported-wine", "infant-formula",
        "laxatives", "liquor", "miscellaneous-wine", "pharmacy", "smoking-cessations",
        "tobacco-other", "prepaid-wireless-accessories", "tickets", "in-store-photofinishing",
        "overnight-photofinishing", "long-distance-calling-cards",
    }
)  # fmt: skip


def _pair_counts(lines: pd.DataFrame, products: int) -> pd.DataFrame:
    """Return how many trips and households hold each pair of products `a` < `b`.

    `lines` is sorted by trip, then product. Comparing each line with the one d places on, for
    every d, finds all pairs without a loop over trips.
    """
    trip, product = lines["trip"].to_numpy(), lines["number"].to_numpy()
    household, households = lines["household"].to_numpy(), int(lines["household"].max()) + 1
    codes = []
    for distance in range(1, int(np.bincount(trip).max())):
        same = trip[distance:] == trip[:-distance]
        pair = product[:-distance][same] * products + product[distance:][same]
        codes.append(pair * households + household[distance:][same])
    met, times = np.unique(np.concatenate(codes), return_counts=True)
    pair, first = np.unique(met // households, return_index=True)
    return pd.DataFrame(
        {
            "a": pair // products,
            "b": pair % products,
            "together": np.add.reduceat(times, first),
            "households": np.diff(np.append(first, len(met))),
        }
    )


def complements(history: History) -> pd.DataFrame:
    """Return `product`, `to`, `lift`, `weight`: at most five a product, the strongest first.

    Things of one category replace each other rather than go together, so pairs cross categories.
    The weight is 1 - 1/lift: 0.5 where the two meet twice as often as by chance, never above 1.
    """
    early = history.trips[history.trips["bought_ms"] < HALF_YEAR_MS]
    lines = history.lines.join(early["household"], on="trip", how="inner")
    counts = lines["product"].value_counts()
    fit = history.products["category"]
    fit = fit[~fit.isin(NEVER_OFFERED)]
    skus = np.sort(counts.index[(counts >= TRIPS_MIN) & counts.index.isin(fit.index)].to_numpy())
    lines = lines[lines["product"].isin(skus)].sort_values(["trip", "product"])
    lines["number"] = np.searchsorted(skus, lines["product"].to_numpy())
    pairs = _pair_counts(lines, len(skus))
    pairs = pairs[pairs["households"] >= HOUSEHOLDS_MIN]
    category = fit.reindex(skus).to_numpy()
    pairs = pairs[category[pairs["a"]] != category[pairs["b"]]].copy()
    often = counts.reindex(skus).to_numpy()
    expected = often[pairs["a"]] * often[pairs["b"]] / len(early)
    pairs["lift"] = (pairs["together"] + SMOOTHING) / (expected + SMOOTHING)
    pairs = pairs[pairs["lift"] >= LIFT_MIN]
    both = pd.concat([pairs, pairs.rename(columns={"a": "b", "b": "a"})], ignore_index=True)
    both["product"], both["to"] = skus[both["a"]], skus[both["b"]]
    both = both.sort_values(["product", "lift", "to"], ascending=[True, False, True])
    both = both.groupby("product").head(EACH_MAX).reset_index(drop=True)
    both["weight"] = (1 - 1 / both["lift"]).round(2)
    return both[["product", "to", "together", "households", "lift", "weight"]]
