"""Python's cycle collector, made rare: customers are many, live long, and hold no cycles."""

import gc

#: Newly made objects before the youngest are looked through; then how often the older ones are.
THRESHOLDS = (200_000, 50, 100)


def calm_collector() -> None:
    """Leave what is there by now (modules, catalogue) alone for good, and seldom look at the rest.

    A whole collection walks through every customer in memory and finds nothing.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
