"""What holds sales back: value, purpose, price, tickets, fatigue, and the order among them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.harness import DAY, HOUR, MINUTE, NOON, REASON, SECOND, World, make_book
from triggers.compiler import compile_content
from triggers.decisions import Offer
from triggers.gates import GATES
from triggers.shapes import Fault

START = NOON - 60 * DAY


def reasons(world: World, rule: str | None = None) -> list[str | None]:
    return [r for name, _, r in world.outcomes() if rule in (None, name)]


def use(world: World, value: float, at: int | None = None, metric: str = "seats") -> None:
    world.send("usage.recorded", at, metric=metric, value=value, quota=100.0)


def faults(rule: dict[str, Any], **book: Any) -> list[Fault]:
    rest = {"id": "r", "kind": "cross_sell", "on": "cart.item_added", "channel": "email"}
    head = {"name": "b", "timezone": "UTC", "currency": "JPY", **book}
    whole = {**rest, "pick": "none", "reason": REASON, **rule}
    found = compile_content({"book": head, "rules": [whole]})
    return found if isinstance(found, list) else []


def test_gates_stand_in_the_order_of_the_contract() -> None:
    assert list(GATES) == [
        "no_consent",
        "ticket_open",
        "already_owned",
        "out_of_stock",
        "irrelevant",
        "value_not_realised",
        "price_ceiling",
        "downsell_too_soon",
        "cooldown",
        "frequency_cap",
        "fatigue",
        "quiet_hours",
        "no_candidate",
        "stale",
    ]


# --- A6, B12d: value first ---

UPGRADE = {
    "id": "upgrade",
    "kind": "up_sell",
    "on": "product.viewed",
    "pick": {"sku": "pro"},
    "gate": {"value_realised": True},
}


def saas(*rules: dict[str, Any], **book: Any) -> World:
    world = World(make_book(*rules, **book), at=START)
    world.product("pro", 9800)
    world.product("addon", 1200)
    return world


def test_an_upgrade_page_seen_on_the_day_of_purchase_comes_too_early() -> None:
    world = saas(UPGRADE)
    world.buy("o1", ["basic"], NOON)
    world.send("product.viewed", NOON + HOUR, sku="pro")
    assert reasons(world) == ["value_not_realised"]


@pytest.mark.parametrize(
    ("deployed", "days", "share", "reason"),
    [
        (True, 3, 50.0, None),
        (True, 2, 50.0, "value_not_realised"),
        (True, 3, 49.9, "value_not_realised"),
        (False, 3, 50.0, "value_not_realised"),
    ],
)
def test_value_is_felt_when_it_is_in_use_on_three_of_seven_days(
    deployed: bool, days: int, share: float, reason: str | None
) -> None:
    world = saas(UPGRADE)
    world.buy("o1", ["basic"], NOON - 10 * DAY)
    if deployed:
        world.send("deployment.completed", NOON - 9 * DAY, product="basic")
    for back in range(days):
        use(world, share, NOON - (6 - back) * DAY)
    world.send("product.viewed", NOON, sku="pro")
    assert reasons(world) == [reason]


@pytest.mark.parametrize(("csat", "reason"), [(4, None), (3, "value_not_realised")])
def test_a_good_mark_for_support_shows_value_too(csat: int, reason: str | None) -> None:
    world = saas(UPGRADE)
    world.send("support.resolved", NOON - DAY, ticket_id="t", csat=csat)
    world.send("product.viewed", NOON, sku="pro")
    assert reasons(world) == [reason]


def test_a_rules_own_sign_of_value_replaces_the_books() -> None:
    own = {**UPGRADE, "gate": {"value_realised": 'usage_share("seats", "7d") >= 0.8'}}
    world = saas(own, gate={"value_realised": True})
    use(world, 79.9, NOON - DAY)
    world.send("product.viewed", NOON, sku="pro")
    use(world, 80.1, NOON + HOUR)
    world.send("product.viewed", NOON + 2 * HOUR, sku="pro")
    assert reasons(world) == ["value_not_realised", None]


def test_the_books_sign_of_value_asks_nothing_of_a_cross_sell() -> None:
    cross = {**UPGRADE, "id": "cross", "kind": "cross_sell", "gate": {}}
    upgrade = {k: v for k, v in UPGRADE.items() if k != "gate"}
    world = saas(cross, upgrade, gate={"value_realised": True})
    world.buy("o1", ["basic"], NOON)
    world.send("product.viewed", NOON + HOUR, sku="pro")
    assert reasons(world, "cross") == [None]
    assert reasons(world, "upgrade") == ["value_not_realised"]


def test_a_sign_of_value_without_a_value_is_none_and_counts_for_its_rule_alone() -> None:
    rule = {k: v for k, v in UPGRADE.items() if k != "gate"}
    other = {**rule, "id": "other", "on": "purchase.completed"}
    world = saas(rule, other, gate={"value_realised": "customer.attributes.score > 3"})
    world.send("product.viewed", NOON, sku="pro")
    assert reasons(world) == ["value_not_realised"]
    values = [world.book.rules[name].gate.value for name in ("upgrade", "other")]
    assert [getattr(value, "errors", None) for value in values] == [1, 0]


def test_before_its_rollout_nothing_is_built_upon_a_product() -> None:
    gate = {"deployed": "crm", "value_realised": 'usage_share("seats", "7d") >= 0.5'}
    world = saas({**UPGRADE, "gate": gate})
    use(world, 90.0, NOON)
    world.send("product.viewed", sku="pro")
    world.send("deployment.completed", product="mail")
    world.send("product.viewed", sku="pro")
    world.send("deployment.completed", product="crm")
    world.send("product.viewed", sku="pro")
    assert reasons(world) == ["value_not_realised", "value_not_realised", None]


def test_a_rollout_without_usage_is_not_enough() -> None:
    gate = {"deployed": True, "value_realised": 'usage_share("seats", "7d") >= 0.5'}
    world = saas({**UPGRADE, "gate": gate})
    world.send("deployment.completed", NOON, product="crm")
    use(world, 49.0)
    world.send("product.viewed", sku="pro")
    assert reasons(world) == ["value_not_realised"]


# --- B3: usage decides between upgrade, add-on and help ---

FULL = 'days_over("seats", 0.8, "7d") >= 5'
B3 = (
    {
        **UPGRADE,
        "on": "usage.recorded",
        "when": FULL,
        "gate": {"value_realised": FULL},
        "once_per": "30d",
    },
    {
        "id": "addon",
        "on": ["usage.recorded", "problem.reported"],
        "when": [
            'usage_share("seats", "7d") < 0.5',
            'customer.problems.exists(p, p == "reports")',
        ],
        "pick": {"sku": "addon"},
        "once_per": "30d",
    },
    {
        "id": "help",
        "kind": "follow_up",
        "on": "usage.recorded",
        "when": ['usage_share("seats", "7d") < 0.5', "size(customer.problems) == 0"],
        "once_per": "30d",
    },
)


@pytest.mark.parametrize(("days", "offers"), [(4, 0), (5, 1), (7, 1)])
def test_80_percent_of_quota_on_five_of_seven_days_is_one_upgrade(days: int, offers: int) -> None:
    world = saas(*B3)
    for day in range(7):
        use(world, 80.0 if day < days else 60.0, NOON + day * DAY)
    assert [o for r, o, _ in world.outcomes() if r == "upgrade"].count("offered") == offers
    assert reasons(world, "addon") == reasons(world, "help") == []


def test_five_days_a_week_apart_are_no_upgrade() -> None:
    world = saas(*B3)
    for day in (0, 1, 2, 3, 7):
        use(world, 80.0, NOON + day * DAY)
    assert world.outcomes() == []


def test_low_usage_and_a_problem_are_an_add_on_and_never_an_upgrade() -> None:
    world = saas(*B3)
    world.send("problem.reported", NOON, tag="reports")
    use(world, 20.0)
    assert [r for r, o, _ in world.outcomes() if o == "offered"] == ["addon"]


def test_low_usage_without_a_problem_is_help_alone() -> None:
    world = saas(*B3)
    use(world, 20.0, NOON)
    assert world.outcomes() == [("help", "offered", None)]


# --- A19: a small yes first ---

SMALL = {
    "id": "small",
    "on": "cart.item_added",
    "pick": {"complements_of": "event.item.sku"},
    "gate": {"price_ceiling": "20%"},
}


def shop(price: int, *rules: dict[str, Any], **book: Any) -> World:
    world = World(make_book(*rules, **book), at=START)
    world.product("extra", price)
    world.complement("a", "extra")
    return world


@pytest.mark.parametrize(("price", "reason"), [(1000, None), (1001, "price_ceiling")])
def test_a_first_offer_is_at_most_20_percent_of_the_basket(price: int, reason: str | None) -> None:
    world = shop(price, SMALL)
    world.add("a", price=5000)
    assert reasons(world) == [reason]


def test_after_the_first_yes_the_ceiling_is_gone() -> None:
    world = shop(1000, SMALL)
    world.add("a", NOON, price=5000)
    world.add("a", NOON + MINUTE, price=4999)
    world.send("offer.accepted", offer_id=world.out.decisions[0].offer_id)
    world.add("a", NOON + HOUR, price=4999)
    assert reasons(world) == [None, "price_ceiling", None]


def test_the_ceiling_and_the_number_of_yeses_can_be_set() -> None:
    gate = {"price_ceiling": {"share": "12.5%", "until_accepted": 2}}
    world = shop(1000, {**SMALL, "gate": gate})
    world.add("a", price=8000)
    world.add("a", price=7999)
    for offer in ("x", "y"):
        world.send("offer.accepted", offer_id=world.out.decisions[0].offer_id + offer)
    assert reasons(world) == [None, "price_ceiling"]


def test_the_price_is_that_of_all_that_is_offered_after_its_reduction() -> None:
    rule = {**SMALL, "price": {"off": "10%"}, "quantity": 2}
    for basket, reason in ((9000, None), (8999, "price_ceiling")):
        world = shop(1000, rule)
        world.add("a", price=basket)
        assert reasons(world) == [reason], basket


def test_what_lies_in_the_cart_is_not_too_dear_to_remind_of() -> None:
    rule = {**SMALL, "pick": {"same": "cart.items"}}
    world = shop(1000, rule)
    world.add("extra", price=1000)
    assert reasons(world) == [None]


def test_without_a_basket_everything_is_too_dear() -> None:
    world = saas({**UPGRADE, "gate": {**UPGRADE["gate"], "price_ceiling": "100%"}})  # type: ignore[dict-item]
    world.send("support.resolved", NOON, ticket_id="t", csat=5)
    world.send("product.viewed", sku="pro")
    assert reasons(world) == ["price_ceiling"]


# --- A22, B9: fatigue ---

ONCE = {**SMALL, "gate": {"fatigue": {"budget": 1, "per": "session"}}}


def test_who_minds_prices_gets_one_offer_in_a_session() -> None:
    rules = [
        {
            **SMALL,
            "id": name,
            "when": "segment.price_sensitive",
            "gate": {"price_ceiling": "20%", "fatigue": {"budget": 1, "per": "session"}},
            "pick": {"sku": sku},
        }
        for name, sku in (("one", "cheap"), ("two", "dear"))
    ]
    head = {"name": "b", "timezone": "UTC", "currency": "JPY"}
    filled = [{"kind": "cross_sell", "channel": "email", "reason": REASON, **r} for r in rules]
    segments = {"price_sensitive": "customer.coupon_share >= 0.5 && customer.orders >= 5"}
    book = compile_content({"book": head, "segments": segments, "rules": filled})
    assert not isinstance(book, list), book
    world = World(book, at=START)
    world.product("cheap", 1000)
    world.product("dear", 1001)
    for order in range(5):
        coupon = {"coupon_total": 100} if order < 3 else {}
        world.buy(f"o{order}", ["z"], NOON - 20 * DAY + order * DAY, **coupon)
    for second in (0, 20, 40):
        world.add("a", NOON + second * SECOND, price=5000)
    assert reasons(world, "one") == [None, "fatigue", "fatigue"]
    assert reasons(world, "two") == ["price_ceiling"] * 3


def test_a_session_ends_after_30_minutes_without_an_event() -> None:
    world = shop(500, ONCE)
    world.add("a", NOON)
    world.add("a", NOON + 30 * MINUTE - SECOND)  # the same session
    world.send("product.viewed", NOON + 59 * MINUTE, sku="a")  # which any event carries on
    world.add("a", NOON + 88 * MINUTE)
    world.add("a", NOON + 118 * MINUTE)
    assert reasons(world) == [None, "fatigue", "fatigue", None]


def test_a_timer_after_a_session_counts_by_itself_until_the_next_event() -> None:
    late = {**ONCE, "id": "late", "after": "31m", "once_per": "always", "pick": {"sku": "extra"}}
    later = {**late, "id": "later", "after": "32m"}
    world = shop(500, ONCE, late, later)
    world.add("a", NOON)
    world.pass_to(NOON + HOUR)
    assert reasons(world, "small") == [None]
    assert reasons(world, "late") == [None]
    assert reasons(world, "later") == ["fatigue"]


def test_a_budget_may_run_over_a_span() -> None:
    world = shop(500, {**SMALL, "gate": {"fatigue": {"budget": 2, "per": "1d"}}})
    for at in (NOON, NOON + HOUR, NOON + DAY - 1, NOON + DAY, NOON + DAY + 1):
        world.add("a", at)
    assert reasons(world) == [None, None, "fatigue", None, "fatigue"]


def test_fatigue_counts_the_offers_of_every_selling_rule() -> None:
    other = {"id": "other", "on": "product.viewed"}
    service = {"id": "service", "kind": "follow_up", "on": "product.viewed"}
    for rule, reason in ((other, "fatigue"), (service, None)):
        world = shop(500, ONCE, rule)
        world.send("product.viewed", NOON, sku="a")
        world.add("a", NOON + MINUTE)
        assert reasons(world, "small") == [reason]


def test_with_a_budget_of_nothing_only_service_passes() -> None:
    rules = [
        {"id": kind, "kind": kind, "on": "checkout.plan_left"}
        for kind in ("cross_sell", "down_sell", "follow_up", "up_sell")
    ]
    gate = {"fatigue": {"budget": 0, "per": "1d"}, "value_realised": "true"}
    world = World(make_book(*rules, gate=gate), at=START)
    world.send("checkout.plan_left", NOON, plan="p", price=100, currency="JPY")
    assert world.outcomes() == [
        ("cross_sell", "suppressed", "fatigue"),
        ("down_sell", "suppressed", "fatigue"),
        ("up_sell", "suppressed", "fatigue"),
        ("follow_up", "offered", None),
    ]


def test_a_rule_cannot_loosen_the_books_budget() -> None:
    loose = {**SMALL, "gate": {"fatigue": {"budget": 9, "per": "1d"}}}
    world = shop(500, loose, gate={"fatigue": {"budget": 1, "per": "1d"}})
    world.add("a", NOON)
    world.add("a", NOON + HOUR)
    assert reasons(world) == [None, "fatigue"]


def test_two_offers_of_one_event_do_not_pass_a_budget_of_one() -> None:
    world = shop(500, {**ONCE, "id": "x"}, {**ONCE, "id": "y"})
    world.add("a")
    assert world.outcomes() == [("x", "offered", None), ("y", "suppressed", "fatigue")]


# --- A23: beside the point ---

FITTING = {**SMALL, "gate": {"purpose": True}}


def desk(**attributes: Any) -> World:
    world = World(make_book(FITTING), at=START)
    world.product("a", 9000, purposes=["home-office", "study"])
    world.product("lamp", 900, purposes=["study"])
    world.product("hose", 900, purposes=["garden"])
    world.product("plain", 900)
    if attributes:
        world.send("customer.profile_set", attributes=attributes)
    return world


def test_a_books_purpose_and_ceiling_bind_a_rule_that_says_nothing_of_them() -> None:
    rule = {key: value for key, value in SMALL.items() if key != "gate"}
    world = World(make_book(rule, gate={"purpose": True, "price_ceiling": "20%"}), at=START)
    world.product("a", 9000, purposes=["study"])
    for sku, price, purpose in (("lamp", 1800, "study"), ("hose", 900, "garden")):
        world.product(sku, price, purposes=[purpose])
    world.complement("a", "hose")
    world.add("a", price=9000)
    world.complement("a", "lamp", weight=0.9)
    world.add("a", cart="k2", price=9000)
    world.product("lamp", 1801, purposes=["study"])
    world.add("a", cart="k3", price=9000)
    assert reasons(world) == ["irrelevant", None, "price_ceiling"]


@pytest.mark.parametrize(("sku", "reason"), [("lamp", None), ("hose", "irrelevant")])
def test_an_offer_shares_the_purpose_of_what_is_bought(sku: str, reason: str | None) -> None:
    world = desk()
    world.complement("a", sku)
    world.add("a")
    assert reasons(world) == [reason]


def test_an_item_without_purposes_shares_none() -> None:
    world = desk()
    world.complement("a", "plain")
    world.add("a")
    assert reasons(world) == ["irrelevant"]


def test_what_does_not_fit_is_passed_over_for_what_does() -> None:
    world = desk()
    world.complement("a", "hose", 0.9)
    world.complement("a", "lamp", 0.1)
    world.add("a")
    assert [item.sku for item in world.out.offers[0].items] == ["lamp"]  # type: ignore[union-attr]


@pytest.mark.parametrize(("goal", "reason"), [("study", None), ("home-office", "irrelevant")])
def test_the_customers_open_goal_comes_first(goal: str, reason: str | None) -> None:
    world = desk(goal=goal)
    world.complement("a", "lamp")
    world.add("a")
    assert reasons(world) == [reason]


def test_a_rule_may_say_what_the_purpose_is() -> None:
    rule = {**SMALL, "gate": {"purpose": "customer.attributes.project"}}
    for project, reason in (("garden", None), ("kitchen", "irrelevant")):
        world = desk(project=project)
        world.book = make_book(rule)
        world.complement("a", "hose")
        world.add("a")
        assert reasons(world) == [reason]


def test_what_is_sold_out_names_the_decision_before_what_does_not_fit() -> None:
    world = desk()
    world.product("gone", 900, stock=0, purposes=["study"])
    world.complement("a", "gone", 0.9)
    world.complement("a", "hose", 0.1)
    world.add("a")
    assert reasons(world) == ["out_of_stock"]


# --- A24, R1, R2: cheap after dear ---

DEAR = {"id": "dear", "on": "product.viewed", "pick": {"sku": "pro"}}
CHEAP = {
    "id": "cheap",
    "kind": "down_sell",
    "on": "checkout.plan_left",
    "pick": {"sku": "addon"},
}


def leave(world: World, at: int) -> None:
    world.send("checkout.plan_left", at, plan="pro", price=9800, currency="JPY")


def test_a_cheaper_plan_waits_a_day_after_a_dearer_offer() -> None:
    world = saas(DEAR, CHEAP)
    world.send("product.viewed", NOON, sku="pro")
    leave(world, NOON + MINUTE)
    leave(world, NOON + DAY - 1)
    leave(world, NOON + DAY)
    assert reasons(world, "cheap") == ["downsell_too_soon", "downsell_too_soon", None]


def test_a_cheaper_plan_that_says_why_it_fits_may_follow_at_once() -> None:
    world = saas(DEAR, {**CHEAP, "gate": {"framing": "fit"}})
    world.send("product.viewed", NOON, sku="pro")
    leave(world, NOON + MINUTE)
    assert reasons(world, "cheap") == [None]


@pytest.mark.parametrize(
    ("price", "reason"), [(1200, None), (1201, "downsell_too_soon"), (1199, None)]
)
def test_only_a_dearer_offer_makes_it_wait(price: int, reason: str | None) -> None:
    world = saas(DEAR, CHEAP)
    world.product("pro", price)
    world.send("product.viewed", NOON, sku="pro")
    leave(world, NOON + MINUTE)
    assert reasons(world, "cheap") == [reason]


def test_a_cheaper_cross_sell_does_not_wait() -> None:
    world = saas(DEAR, {**CHEAP, "kind": "cross_sell"})
    world.send("product.viewed", NOON, sku="pro")
    leave(world, NOON + MINUTE)
    assert reasons(world, "cheap") == [None]


@pytest.mark.parametrize(
    ("reason", "count"), [("price", 1), ("spec", 1), ("not_needed", 0), ("other", 0), (None, 0)]
)
def test_only_price_and_spec_are_hesitation(reason: str | None, count: int) -> None:
    world = saas({**CHEAP, "on": ["offer.declined", "checkout.plan_left"]})
    more = {"reason": reason} if reason else {}
    world.send("offer.declined", NOON, offer_id="x", **more)
    assert len(world.outcomes()) == count


def test_a_plan_taken_up_again_is_no_hesitation() -> None:
    rule = {
        **CHEAP,
        "on": ["checkout.plan_selected", "checkout.plan_left"],
        "after_silence": "30m",
    }
    fields: dict[str, Any] = {"plan": "pro", "price": 9800, "currency": "JPY"}
    for last, count in (("checkout.plan_left", 1), ("checkout.plan_selected", 0)):
        world = saas(rule)
        world.send("checkout.plan_left", NOON, **fields)
        world.send("checkout.plan_selected", NOON + MINUTE, **fields)
        world.send(last, NOON + 2 * MINUTE, **fields)
        world.pass_to(NOON + HOUR)
        assert len(world.outcomes()) == count, last


# --- B8c: after support, when satisfied ---

THANKS = {
    "id": "thanks",
    "on": "support.resolved",
    "when": "event.csat >= 4",
    "pick": {"sku": "addon"},
}


@pytest.mark.parametrize(("csat", "count"), [(5, 1), (4, 1), (3, 0), (2, 0)])
def test_a_good_mark_is_a_moment_to_offer_and_a_bad_one_is_not(csat: int, count: int) -> None:
    world = saas(THANKS)
    world.send("support.opened", NOON, ticket_id="t1")
    world.send("support.resolved", NOON + HOUR, ticket_id="t1", csat=csat)
    assert [o for _, o, _ in world.outcomes()] == ["offered"] * count


def test_a_ticket_that_was_opened_again_holds_back_a_later_offer() -> None:
    world = saas({**THANKS, "after": "3d"})
    world.send("support.resolved", NOON, ticket_id="t1", csat=5)
    world.send("support.opened", NOON + 2 * DAY, ticket_id="t1")
    world.pass_to(NOON + 4 * DAY)
    assert reasons(world) == ["ticket_open"]


def test_an_open_ticket_blocks_all_selling_and_no_service() -> None:
    kinds = ("cross_sell", "down_sell", "follow_up", "up_sell")
    rules = [{"id": kind, "kind": kind, "on": "checkout.plan_left"} for kind in kinds]
    world = World(make_book(*rules, gate={"value_realised": "true"}), at=START)
    world.send("support.opened", NOON, ticket_id="t1")
    leave(world, NOON + HOUR)
    assert world.outcomes()[:3] == [
        ("cross_sell", "suppressed", "ticket_open"),
        ("down_sell", "suppressed", "ticket_open"),
        ("up_sell", "suppressed", "ticket_open"),
    ]
    assert world.outcomes()[3:] == [("follow_up", "offered", None)]


def test_another_ticket_still_open_blocks_the_moment_after_support() -> None:
    world = saas(THANKS)
    for ticket in ("t1", "t2"):
        world.send("support.opened", NOON, ticket_id=ticket)
    world.send("support.resolved", NOON + HOUR, ticket_id="t1", csat=5)
    assert reasons(world) == ["ticket_open"]


# --- B12c: a heavy user is no newcomer ---


def test_a_heavy_user_never_gets_what_is_for_newcomers() -> None:
    rules = [
        {"id": f"for-{stage}", "on": "product.viewed", "when": f'customer.stage == "{stage}"'}
        for stage in ("new", "active", "heavy")
    ]
    world = World(make_book(*rules), at=START)
    world.send("product.viewed", NOON - 40 * DAY, sku="a")
    for order in range(3):
        world.buy(f"o{order}", ["a"], NOON - 40 * DAY + HOUR + order * DAY)
    world.send("product.viewed", NOON, sku="a")
    world.buy("o3", ["a"], NOON + DAY)
    for order in range(4, 7):
        world.buy(f"o{order}", ["a"], NOON + DAY + order * HOUR)
    world.send("product.viewed", NOON + 2 * DAY, sku="a")
    assert [rule for rule, _, _ in world.outcomes()] == ["for-new", "for-active", "for-heavy"]


# --- what check says ---


@pytest.mark.parametrize(
    ("gate", "path", "word"),
    [
        ({"value_realised": "customer.oders > 1"}, "value_realised", "customer.orders"),
        ({"value_realised": "customer.orders"}, "value_realised", "true or false"),
        ({"value_realised": False}, "value_realised", "leave the key out"),
        ({"purpose": "customer.orders"}, "purpose", "a text or a list"),
        ({"purpose": "trigger.purpose"}, "purpose", "trigger.purposes"),
        ({"price_ceiling": "20"}, "share", ""),
        ({"price_ceiling": {"share": "20%", "until_accepted": 0}}, "until_accepted", ""),
        ({"fatigue": {"budget": 51, "per": "session"}}, "budget", "50"),
        ({"fatigue": {"budget": 1, "per": "sesion"}}, "per", "write session"),
        ({"framing": "fit"}, "framing", "down_sell"),
        ({"framing": "cheap"}, "framing", "fit"),
        ({"deployed": False}, "deployed", "leave the key out"),
        ({"fatigu": {"budget": 1, "per": "1d"}}, "fatigu", "fatigue"),
    ],
)
def test_a_fault_of_a_gate_is_named_at_its_place(
    gate: dict[str, Any], path: str, word: str
) -> None:
    found = faults({"gate": gate})
    assert [fault.path[-1] for fault in found] == [path]
    assert word in found[0].message


def test_a_book_cannot_say_that_every_cheaper_offer_fits() -> None:
    assert [f.path for f in faults({}, gate={"framing": "fit"})] == [("book", "gate", "framing")]


def test_a_fault_of_the_books_gate_is_named_once() -> None:
    found = faults({}, gate={"value_realised": "customer.oders > 1"})
    assert [fault.path for fault in found] == [("book", "gate", "value_realised")]


# --- in any log ---

LOG = st.lists(
    st.tuples(
        st.sampled_from(["add", "leave", "view", "use", "csat", "ticket", "decline", "wait"]),
        st.integers(0, 3),
        st.one_of(st.integers(1, 90 * MINUTE), st.integers(1, 2 * DAY)),
    ),
    max_size=30,
)
ANY_RULES = (
    {**SMALL, "gate": {"price_ceiling": "20%", "purpose": True}},
    {**UPGRADE, "placement": "page"},
    {**DEAR, "placement": "page", "priority": 10},
    {**CHEAP, "on": ["checkout.plan_left", "offer.declined"]},
    {**CHEAP, "id": "later", "kind": "cross_sell", "after_silence": "40m", "once_per": "always"},
)


def play(world: World, log: list[tuple[str, int, int]], reload: bool) -> World:
    for sku, price in (("extra", 900), ("pro", 9800), ("addon", 1200)):
        world.product(sku, price, purposes=["study"])
    world.product("a", 5000, purposes=["study"])
    world.complement("a", "extra")
    for kind, number, pause in log:
        at = world.at + pause
        if kind == "add":
            world.add("a", at, price=3000 + 1000 * number)
        elif kind == "leave":
            leave(world, at)
        elif kind == "view":
            world.send("product.viewed", at, sku="pro")
        elif kind == "use":
            use(world, 30.0 * number, at)
        elif kind == "csat":
            world.send("support.resolved", at, ticket_id="t", csat=number + 2)
        elif kind == "ticket":
            world.send("support.opened", at, ticket_id="t")
        elif kind == "decline":
            reason = ("price", "spec", "other", "timing")[number]
            world.send("offer.declined", at, offer_id="x", reason=reason)
        else:
            world.pass_to(at)
        if reload:
            world.reload()
    return world


def gated(**book: Any) -> World:
    gate = {"fatigue": {"budget": 2, "per": "session"}, "deployed": True}
    return World(make_book(*ANY_RULES, gate=gate, **book), at=START)


@settings(max_examples=80, deadline=None)
@given(LOG)
def test_gates_answer_the_same_after_a_way_through_bytes(
    log: list[tuple[str, int, int]],
) -> None:
    kept, reloaded = play(gated(), log, reload=False), play(gated(), log, reload=True)
    told = [[d.encode() for d in world.out.decisions] for world in (kept, reloaded)]
    assert told[0] == told[1]


@settings(max_examples=80, deadline=None)
@given(LOG)
def test_in_any_log_no_session_has_more_than_its_budget(log: list[tuple[str, int, int]]) -> None:
    world = gated()
    sessions: list[int] = []
    offers: list[tuple[int, int]] = []
    told = 0
    last = world.customer.now.seen_at
    for entry in log:
        play(world, [entry], reload=False)
        seen = world.customer.now.seen_at
        for offer in world.out.offers[told:]:
            # A timer's offer past the end of a session lies in a gap: a session of its own.
            start = sessions[-1] if sessions else 0
            if seen != last and offer.at == seen and seen - last >= 30 * MINUTE:
                start = seen
            elif offer.at - last >= 30 * MINUTE:
                start = last + 30 * MINUTE
            offers.append((start, offer.at))
        told = len(world.out.offers)
        if seen - last >= 30 * MINUTE:
            sessions.append(seen)
        last = seen
    for start in {start for start, _ in offers}:
        assert len([1 for other, _ in offers if other == start]) <= 2


@settings(max_examples=80, deadline=None)
@given(LOG)
def test_in_any_log_a_down_sell_keeps_a_day_from_a_dearer_offer(
    log: list[tuple[str, int, int]],
) -> None:
    world = play(gated(), log, reload=False)
    made = [o for o in world.out.offers if isinstance(o, Offer)]
    for offer in made:
        if offer.kind == "down_sell":
            price = sum(item.offer_price for item in offer.items)
            assert not [
                earlier
                for earlier in made
                if earlier.at < offer.at < earlier.at + DAY
                and sum(item.offer_price for item in earlier.items) > price
            ]


@settings(max_examples=60, deadline=None)
@given(LOG)
def test_who_is_held_out_would_have_had_what_others_have(log: list[tuple[str, int, int]]) -> None:
    others = play(gated(), log, reload=False)
    held = play(gated(holdout={"share": "100%", "salt": "s"}), log, reload=False)
    assert held.out.offers == []

    def answers(world: World, given: str) -> list[tuple[str, int]]:
        return [(d.rule, d.at) for d in world.out.decisions if d.outcome == given]

    outranked = answers(others, "outranked")
    assert sorted(answers(held, "held_out")) == sorted(answers(others, "offered") + outranked)
