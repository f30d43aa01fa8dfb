"""What expressions and texts can see: one table of typed names, and functions.

A name maps to its CEL type, a getter and a presence test. Getters are plain functions of a
:class:`Context` and never raise: what is missing has the default of its type.
"""

import types
import typing
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from triggers import replenish, usage
from triggers.book import Book
from triggers.catalog import UNKNOWN, Catalog, Product
from triggers.customer import Customer
from triggers.durations import DAY_MS, parse_duration
from triggers.events import EVENT_TYPES, EventType, Item
from triggers.names import Function, Variable
from triggers.offerfacts import FACTS
from triggers.offerfacts import FUNCTIONS as OFFER_FUNCTIONS
from triggers.present import Cart, Checkout, Contract
from triggers.rates import plan_abandonment, plan_selections
from triggers.rings import Order, pack_lines
from triggers.state import Line

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NO_CART = Cart("")
_NO_ORDER = Order("", 0, 0, 0, "", 0, pack_lines([]))
_NO_CHECKOUT = Checkout("", "")
_NO_CONTRACT = Contract("", "", "")
DEFAULTS: dict[str, Any] = {"string": "", "int": 0, "double": 0.0, "bool": False}


class Context:
    """Everything one decision may look at: the event, the customer after it, and the instant.

    ``event`` is the data struct of the event (at a timer: of the one that armed it), ``item`` the
    first item offered, for texts.
    """

    __slots__ = (
        "_cart",
        "_cart_categories",
        "_product",
        "at",
        "book",
        "catalog",
        "customer",
        "event",
        "item",
        "type",
    )

    def __init__(
        self, event: Any, kind: str, customer: Customer, at: int, book: Book, catalog: Catalog
    ) -> None:
        self.event = event
        self.type = kind
        self.customer = customer
        self.at = at
        self.book = book
        self.catalog = catalog
        self.item: Product = UNKNOWN
        self._cart: Cart | None = None
        self._cart_categories: list[str] | None = None
        self._product: Product | None = None

    @property
    def cart_categories(self) -> list[str]:
        """The categories in the cart, sorted; several rules ask at the same event."""
        if self._cart_categories is None:
            self._cart_categories = _categories(self, self.cart.lines.values())
        return self._cart_categories

    @property
    def product(self) -> Product:
        """The catalogue record of the event's item (of an order: of its first line)."""
        if self._product is None:
            self._product = self.catalog.product(event_sku(self.event)) or UNKNOWN
        return self._product

    @property
    def cart(self) -> Cart:
        """The cart that the event is about, else the customer's latest one."""
        if self._cart is None:
            self._cart = _find_cart(self)
        return self._cart

    @property
    def checkout(self) -> Checkout:
        """The checkout of the event."""
        wanted = getattr(self.event, "checkout_id", "")
        for checkout in self.customer.now.checkouts:
            if checkout.checkout_id == wanted:
                return checkout
        return _NO_CHECKOUT

    @property
    def order(self) -> Order:
        """The order of the event."""
        wanted = getattr(self.event, "order_id", "")
        return self.customer.orders.get(wanted, _NO_ORDER) if wanted else _NO_ORDER

    @property
    def contract(self) -> Contract:
        """The contract of the event, else the latest one."""
        wanted = getattr(self.event, "contract_id", None)
        found = _NO_CONTRACT
        for contract in self.customer.now.contracts:
            if wanted is None or contract.contract_id == wanted:
                found = contract
        return found

    def category(self, sku: str, line_category: str = "") -> str:
        """The category of a sku: what the line said, else the catalogue."""
        if line_category:
            return line_category
        product = self.catalog.product(sku)
        return product.category if product else ""


def event_sku(data: Any) -> str:
    """The sku an event is about: its item's, its own, its plan, or its first line's."""
    item = getattr(data, "item", None)
    if item is not None:
        return str(item.sku)
    sku = getattr(data, "sku", None) or getattr(data, "plan", None)
    if sku:
        return str(sku)
    items = getattr(data, "items", None)
    return str(items[0].sku) if items and isinstance(items[0], Item) else ""


def _find_cart(ctx: Context) -> Cart:
    carts = ctx.customer.now.carts
    wanted = getattr(ctx.event, "cart_id", None) or ctx.checkout.cart_id
    if wanted:
        for cart in carts:
            if cart.cart_id == wanted:
                return cart
        return _NO_CART
    return carts[-1] if carts else _NO_CART


def _var(kind: str, get: Callable[[Context], Any]) -> Variable:
    return Variable(kind, get, lambda ctx: bool(get(ctx)))


def _categories(ctx: Context, lines: Iterable[Line]) -> list[str]:
    return sorted({ctx.category(line.sku, line.category) for line in lines} - {""})


def _families(ctx: Context, skus: Iterable[str]) -> list[str]:
    found = {p.family for sku in skus if (p := ctx.catalog.product(sku)) is not None}
    return sorted(found - {""})


def _recent(ctx: Context) -> list[Order]:
    since = ctx.at - 30 * DAY_MS
    found = []
    for order in reversed(ctx.customer.orders.values()):  # the latest first: most are older
        if order.at <= since:
            break
        if not order.void:
            found.append(order)
    return found


def _stage(ctx: Context) -> str:
    now = ctx.customer.now
    if now.orders == 0:
        return "new"
    if ctx.at - now.first_order_at < 30 * DAY_MS and now.orders < 3:
        return "new"
    if ctx.at - now.seen_at >= 90 * DAY_MS:
        return "lapsed"
    heavy = len(_recent(ctx)) >= 4 or usage.days_over(ctx, usage.ANY, 0.8, "7d") >= 5
    return "heavy" if heavy else "active"


def _made_within(ctx: Context, window_ms: int) -> int:
    since = ctx.at - window_ms
    return sum(1 for made in ctx.customer.offers.made if made.at > since and not made.ghost)


def _perks(ctx: Context) -> list[str]:
    """The perks that still hold of the offer that the event is about."""
    wanted = getattr(ctx.event, "offer_id", None)
    for made in ctx.customer.offers.made if wanted else ():
        if made.offer_id == wanted:
            return [name for name, until in made.perks if until >= ctx.at]
    return []


def _days(ctx: Context, since_ms: int) -> int:
    return (ctx.at - since_ms) // DAY_MS if since_ms else 0


VARIABLES: dict[str, Variable] = {
    "at": _var("timestamp", lambda c: _EPOCH + timedelta(milliseconds=c.at)),
    "cart.cart_id": _var("string", lambda c: c.cart.cart_id),
    "cart.subtotal": _var("int", lambda c: c.cart.subtotal),
    "cart.currency": _var("string", lambda c: c.cart.currency),
    "cart.items": _var("list(item)", lambda c: list(c.cart.lines.values())),
    "cart.skus": _var("list(string)", lambda c: list(c.cart.lines)),
    "cart.categories": _var("list(string)", lambda c: c.cart_categories),
    "cart.families": _var("list(string)", lambda c: _families(c, c.cart.lines)),
    "checkout.checkout_id": _var("string", lambda c: c.checkout.checkout_id),
    "checkout.cart_id": _var("string", lambda c: c.checkout.cart_id),
    "checkout.total": _var("int", lambda c: c.checkout.total),
    "contract.contract_id": _var("string", lambda c: c.contract.contract_id),
    "contract.plan": _var("string", lambda c: c.contract.plan),
    "contract.renews_at": _var("string", lambda c: c.contract.renews_at),
    "offer.perks": _var("list(string)", _perks),
    "order.order_id": _var("string", lambda c: c.order.order_id),
    "order.total": _var("int", lambda c: c.order.total),
    "order.coupon_total": _var("int", lambda c: c.order.coupon_total),
    "order.items": _var("list(item)", lambda c: c.order.lines),
    "order.skus": _var("list(string)", lambda c: [line.sku for line in c.order.lines]),
    "order.categories": _var("list(string)", lambda c: _categories(c, c.order.lines)),
    "trigger.items": _var("list(item)", lambda c: getattr(c.event, "items", None) or []),
    "customer.orders": _var("int", lambda c: c.customer.now.orders),
    "customer.orders_30d": _var("int", lambda c: len(_recent(c))),
    "customer.spend": _var("int", lambda c: c.customer.now.spend),
    "customer.spend_30d": _var("int", lambda c: sum(o.total - o.refunded for o in _recent(c))),
    "customer.aov": _var(
        "int",
        lambda c: c.customer.now.spend // c.customer.now.orders if c.customer.now.orders else 0,
    ),
    "customer.ltv": _var("int", lambda c: c.customer.now.margin_micro // 1_000_000),
    "customer.tenure_days": _var("int", lambda c: _days(c, c.customer.now.first_order_at)),
    "customer.days_since_order": _var("int", lambda c: _days(c, c.customer.now.last_order_at)),
    "customer.skus": _var("list(string)", lambda c: sorted(c.customer.owned)),
    "customer.categories": _var(
        "list(string)", lambda c: sorted({c.category(sku) for sku in c.customer.owned} - {""})
    ),
    "customer.families": _var("list(string)", lambda c: _families(c, c.customer.owned)),
    "customer.coupon_share": _var(
        "double",
        lambda c: (
            c.customer.now.coupon_orders / c.customer.now.orders if c.customer.now.orders else 0.0
        ),
    ),
    "customer.stage": _var("string", _stage),
    "customer.timezone": _var("string", lambda c: c.customer.now.timezone or c.book.timezone),
    "customer.locale": _var("string", lambda c: c.customer.now.locale),
    "customer.attributes": _var("map", lambda c: c.customer.now.attributes),
    "customer.tickets_open": _var("int", lambda c: len(c.customer.now.tickets)),
    "customer.csat": _var("double", lambda c: c.customer.now.csat),
    "customer.problems": _var(
        "list(string)", lambda c: sorted({tag for tag, _ in c.customer.history.problems})
    ),
    "customer.deployed": _var("list(string)", lambda c: c.customer.now.deployed),
    "customer.offers_made_7d": _var("int", lambda c: _made_within(c, 7 * DAY_MS)),
    "customer.offers_accepted": _var("int", lambda c: c.customer.now.accepted),
    "customer.offers_declined": _var("int", lambda c: c.customer.now.declined),
    "customer.last_decline_reason": _var("string", lambda c: c.customer.now.last_decline_reason),
    "customer.entered_by_downsell": _var("bool", lambda c: c.customer.now.entered_by_downsell),
    **FACTS,
}
for _field, _kind in (
    ("sku", "string"),
    ("name", "string"),
    ("price", "int"),
    ("currency", "string"),
    ("category", "string"),
    ("family", "string"),
    ("margin", "double"),
):
    for _root in ("trigger", "product"):
        VARIABLES[f"{_root}.{_field}"] = _var(
            _kind,
            lambda c, name=_field: getattr(c.product, name),  # type: ignore[misc]
        )
for _field in ("purposes", "features"):
    for _root in ("trigger", "product"):
        VARIABLES[f"{_root}.{_field}"] = _var(
            "list(string)",
            lambda c, name=_field: list(getattr(c.product, name)),  # type: ignore[misc]
        )


def _views(ctx: Context, sku: str, window: str) -> int:
    since = ctx.at - parse_duration(window).ms
    count = 0
    for seen, at in reversed(ctx.customer.history.views):  # the latest first: most are older
        if at <= since:
            break
        count += seen == sku
    return count


def _plan_abandonment(ctx: Context, plan: str) -> float:
    return plan_abandonment(ctx.catalog.learned, plan, ctx.at, ctx.book.selections_min)


FUNCTIONS: dict[str, Function] = {
    "customer.views": Function(("string", "string"), "int", _views),
    "customer.bought": Function(("string",), "bool", lambda ctx, sku: sku in ctx.customer.owned),
    "views": Function(("string", "string"), "int", _views),
    "plan_abandonment": Function(("string",), "double", _plan_abandonment),
    "plan_selections": Function(
        ("string",), "int", lambda c, plan: plan_selections(c.catalog.learned, plan, c.at)
    ),
    "bought": Function(("string",), "bool", lambda ctx, sku: sku in ctx.customer.owned),
    **OFFER_FUNCTIONS,
}


def _windowed(call: Callable[..., Any], returns: str, *params: str) -> Function:
    """A function about usage, whose last argument is a span of whole days."""
    last = len(params) - 1

    def check(place: int, constant: Any) -> str | None:
        return usage.window_fault(constant) if place == last else None

    return Function(params, returns, call, check)


FUNCTIONS["run_out_at"] = Function(
    ("string", "string"), "string", replenish.run_out_at, replenish.span_fault
)
FUNCTIONS["run_out_by_usage"] = Function(
    ("string", "string", "string", "double"),
    "string",
    replenish.run_out_by_usage,
    replenish.span_fault,
)
for _name, _function in {
    "usage_sum": _windowed(usage.usage_sum, "double", "string", "string"),
    "usage_share": _windowed(usage.usage_share, "double", "string", "string"),
    "days_over": _windowed(usage.days_over, "int", "string", "double", "string"),
}.items():
    FUNCTIONS[_name] = FUNCTIONS[f"customer.{_name}"] = _function

_SCALARS = {str: "string", int: "int", float: "double", bool: "bool"}


def _kind_of(hint: Any) -> str:
    """The CEL type name of a field annotation; ``""`` for what expressions cannot see."""
    if typing.get_origin(hint) is typing.Annotated:
        return _kind_of(typing.get_args(hint)[0])
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        rest = [arg for arg in typing.get_args(hint) if arg is not type(None)]
        return _kind_of(rest[0]) if len(rest) == 1 else "double" if float in rest else ""
    if typing.get_origin(hint) is list:
        inner = typing.get_args(hint)[0]
        return "list(item)" if inner is Item else "list(string)"
    if typing.get_origin(hint) is typing.Literal:
        return "string"
    return _SCALARS.get(hint, "item" if hint is Item else "")


def _event_field(path: tuple[str, ...], kind: str) -> Variable:
    """A field of the event's payload, or with a second name one of the struct in that field."""
    default = DEFAULTS.get(kind, ())
    first, second = path if len(path) == 2 else (path[0], "")

    def get(ctx: Context) -> Any:
        value = getattr(ctx.event, first, None)
        if second:
            value = getattr(value, second, None)
        return default if value is None else value

    def has(ctx: Context) -> bool:
        value = getattr(ctx.event, first, None)
        return (getattr(value, second, None) if second else value) is not None

    if kind.startswith("list"):
        return Variable(kind, lambda ctx: list(get(ctx)), has)
    return Variable(kind, get, has)


def struct_fields(data: type[msgspec.Struct]) -> dict[str, str]:
    """Field name -> type name of a payload struct."""
    hints = typing.get_type_hints(data, include_extras=True)
    return {name: kind for name, hint in hints.items() if (kind := _kind_of(hint))}


def event_variables(
    event_types: Iterable[str], known: Mapping[str, EventType] = EVENT_TYPES
) -> dict[str, Variable]:
    """The ``event.*`` names of rules that listen to ``event_types``, in one typed table.

    A field that only some of the types carry is there with its default for the others; one whose
    types differ between them is left out.
    """
    found: dict[str, str] = {}
    for event_type in event_types:
        for name, kind in struct_fields(known[event_type].data).items():
            found[name] = kind if found.get(name, kind) == kind else ""
    table: dict[str, Variable] = {}
    for name, kind in found.items():
        if kind == "item":
            for field, inner in struct_fields(Item).items():
                table[f"event.{name}.{field}"] = _event_field((name, field), inner)
        elif kind:
            table[f"event.{name}"] = _event_field((name,), kind)
    return table
