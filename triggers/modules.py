"""The next module of a system that grows step by step: what it needs is there, and it helps.

One at a time: while a module was bought and is not deployed, the next one waits.
"""

from collections import Counter
from collections.abc import Iterable

from triggers.catalog import Ranked
from triggers.context import Context


def held_beyond_orders(ctx: Context) -> set[str]:
    """What the customer has without an order that says so: plans under contract, deployments."""
    now = ctx.customer.now
    return {*now.deployed, *(contract.plan for contract in now.contracts)}


def pains(ctx: Context) -> list[str]:
    """The tags of the problems remembered, each as often as it was reported."""
    return [tag for tag, _ in ctx.customer.history.problems]


def next_modules(skus: Iterable[str], tags: Iterable[str], ctx: Context) -> Ranked:
    """Modules that require one of ``skus`` and whose features match one of ``tags``.

    Everything that a module requires must be held: owned, under contract or deployed. The weight
    is how often its tags were reported; equal ones by sku.
    """
    catalog, customer = ctx.catalog, ctx.customer
    held = held_beyond_orders(ctx) | customer.owned.keys()
    modules = {m.sku: m for sku in skus if sku in held for m in catalog.needing(sku)}
    if any(sku in held and sku not in customer.now.deployed for sku in modules):
        return []
    counts = Counter(tags)
    found = []
    for sku, module in modules.items():
        weight = sum(counts[feature] for feature in dict.fromkeys(module.features))
        if weight and held.issuperset(module.requires):
            found.append((-float(weight), sku, module))
    return sorted(found, key=lambda entry: entry[:2])
