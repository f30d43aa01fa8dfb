"""What is offered along ladders, in sets, by modules and when supplies end, through the engine."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from tests.unit.crowd import Crowd
from tests.unit.harness import DAY, HOUR, MINUTE, NOON, SECOND, World, make_book
from triggers.decisions import Offer
from triggers.durations import to_text
from triggers.events import EVENT_TYPES

VALUE = {"value_realised": "true"}


def world(*rules: dict[str, Any], **book: Any) -> World:
    return World(make_book(*rules, **book))


def offers(found: World) -> list[Offer]:
    return [offer for offer in found.out.offers if isinstance(offer, Offer)]


def skus(found: World) -> list[list[str]]:
    return [[item.sku for item in offer.items] for offer in offers(found)]


def body(offer: Offer) -> dict[str, Any]:
    data: dict[str, Any] = msgspec.json.decode(offer.encode())["data"]
    return data


def bundle(found: World, sku: str, items: list[str], price: int, **theme: str) -> None:
    data: dict[str, Any] = {"items": items, "price": price, "currency": "JPY"}
    if theme:
        data["theme"] = theme
    kind = "catalog.bundle_set"
    found.catalog.apply(kind, sku, msgspec.convert(data, EVENT_TYPES[kind].data))


def relate(found: World, sku: str, to: str, relation: str, **story: str) -> None:
    data: dict[str, Any] = {"to": to, "relation": relation, "weight": 0.5}
    if story:
        data["story"] = story
    kind = "catalog.relation_set"
    found.catalog.apply(kind, sku, msgspec.convert(data, EVENT_TYPES[kind].data))


def ladder(found: World, *prices: int, features: dict[int, list[str]] | None = None) -> None:
    """Plans p1, p2, ... on one ladder."""
    for step, price in enumerate(prices, 1):
        more = {"features": (features or {}).get(step, [])}
        found.product(f"p{step}", price, ladder={"name": "plans", "step": step}, **more)


# --- never another of the same kind ---

CHAIR = {"id": "chair", "on": "cart.item_added", "pick": {"complements_of": "event.item.sku"}}


def chairs(**more: Any) -> World:
    found = world({**CHAIR, "pick": {**CHAIR["pick"], "max": 5, **more}})  # type: ignore[dict-item]
    found.product("chair", 20_000, category="chair", family="seating")
    found.product("chair-2", 25_000, category="chair", family="seating")
    found.product("cushion", 3_000, category="cushion", family="seating")
    found.product("footrest", 5_000, category="footrest")
    for to, weight in (("chair-2", 0.9), ("cushion", 0.8), ("footrest", 0.7)):
        found.complement("chair", to, weight)
    return found


def test_a_chair_brings_cushion_and_footrest_and_never_another_chair() -> None:
    found = chairs()
    found.add("chair")
    assert skus(found) == [["cushion", "footrest"]]


def test_a_complement_that_is_owned_is_passed_over() -> None:
    found = chairs()
    found.buy("o1", ["cushion"])
    found.add("chair")
    assert skus(found) == [["footrest"]]


def test_another_product_of_another_category_in_the_family_is_offered() -> None:
    found = chairs()
    found.product("chair-2", 25_000, category="stool", family="seating")
    found.add("chair")
    assert skus(found) == [["chair-2", "cushion", "footrest"]]


def test_what_a_rule_excludes_is_no_candidate() -> None:
    found = chairs(exclude=["cushion"])
    found.add("chair")
    assert skus(found) == [["footrest"]]


SERVICES = {
    "id": "services",
    "on": "device.change_started",
    "pick": {"complements_of": '"line"', "max": 4},
}


def test_at_a_change_of_device_services_are_offered_and_never_a_handset() -> None:
    found = world(SERVICES)
    found.product("line", category="line")
    for sku, category in (("phone", "handset"), ("power", "power"), ("gas", "gas")):
        found.product(sku, 1_000, category=category)
        found.complement("line", sku)
    found.send("device.change_started", device_category="handset")
    assert skus(found) == [["gas", "power"]]


def test_only_a_handset_to_offer_is_nothing_to_offer() -> None:
    found = world(SERVICES)
    found.product("line")
    found.product("phone", 1_000, category="handset")
    found.complement("line", "phone")
    found.send("device.change_started", device_category="handset")
    assert found.outcomes() == [("services", "suppressed", "no_candidate")]
    found.send("device.change_started", device_category="tablet")
    assert skus(found) == [["phone"]]


# --- the gap to free shipping ---

GAP = {
    "id": "gap",
    "on": ["cart.item_added", "cart.item_removed"],
    "when": ["event.subtotal < 5000"],
    "once_per": "1d",
    "pick": {"closes_gap_to": 5000, "from": "complements"},
}


def gap_world(**rule: Any) -> World:
    found = world({**GAP, **rule})
    found.product("tea", 4_000)
    for sku, price in (("spoon", 800), ("sieve", 799), ("cup", 1_200)):
        found.product(sku, price)
        found.complement("tea", sku)
    return found


@pytest.mark.parametrize(
    ("subtotal", "offered"),
    [(4_999, [["sieve"]]), (4_201, [["sieve"]]), (4_200, [["spoon"]]), (3_800, [["cup"]]),
     (3_799, []), (5_000, [])],
)  # fmt: skip
def test_the_cheapest_relevant_item_closes_the_gap(subtotal: int, offered: list[Any]) -> None:
    found = gap_world()
    found.add("tea", price=subtotal)
    assert skus(found) == offered


def test_an_item_taken_back_opens_the_gap_again_and_is_answered_once() -> None:
    found = gap_world()
    found.add("tea", price=4_200)
    item = {"sku": "spoon", "quantity": 1, "unit_price": 800}
    fields: dict[str, Any] = {"cart_id": "k", "currency": "JPY"}
    found.send("cart.item_added", item={**item, "sku": "other"}, subtotal=5_000, **fields)
    found.send("cart.item_removed", item={**item, "sku": "other"}, subtotal=4_200, **fields)
    assert [o for _, o, _ in found.outcomes()] == ["offered", "suppressed"]
    assert skus(found) == [["spoon"]]


def test_a_discount_counts_when_it_opens_the_gap_again() -> None:
    found = gap_world(price={"off": "1%"})  # 800 becomes 792, 1,200 becomes 1,188
    found.add("tea", price=4_200)
    assert skus(found) == [["cup"]]


# --- ladders ---

UP = {
    "id": "up",
    "kind": "up_sell",
    "on": "checkout.plan_selected",
    "gate": VALUE,
    "pick": {"tier_up_from": "event.plan"},
}
DOWN = {
    "id": "down",
    "kind": "down_sell",
    "on": "checkout.plan_left",
    "after_silence": "30m",
    "unless": "purchase.completed",
    "pick": {"tier_down_from": "event.plan"},
}


def select(found: World, plan: str = "p1") -> None:
    found.send("checkout.plan_selected", plan=plan, price=1, currency="JPY")


def leave(found: World, plan: str, at: int) -> None:
    found.send("checkout.plan_left", at, plan=plan, price=1, currency="JPY", reason="price")


@pytest.mark.parametrize(
    ("prices", "offered"),
    [
        ((10_000, 12_500, 16_000), [["p2"]]),
        ((10_000, 12_000), [["p2"]]),
        ((10_000, 11_999), []),
        ((10_000, 13_000), [["p2"]]),
        ((10_000, 13_001), []),
        ((10_000, 13_100), []),
    ],
)
def test_each_tier_is_20_to_30_percent_over_the_one_below(
    prices: tuple[int, ...], offered: list[Any]
) -> None:
    found = world(UP)
    ladder(found, *prices)
    select(found)
    assert skus(found) == offered
    if not offered:
        assert found.outcomes() == [("up", "suppressed", "no_candidate")]


def test_what_lies_beyond_a_broken_step_is_passed_over_and_noted() -> None:
    found = world(UP)
    ladder(found, 10_000, 13_100, 16_375)
    out = found.send("checkout.plan_selected", plan="p1", price=1, currency="JPY")
    assert out.notes["ladder_out_of_bounds"] == 1
    assert offers(found) == []


def test_a_book_may_allow_a_ladder_with_a_reason() -> None:
    allow = {"ladders": ["plans"], "reason": "old tariffs that run out in spring"}
    found = world(UP, allow=allow)
    ladder(found, 10_000, 13_100)
    select(found)
    assert skus(found) == [["p2"]]


def test_a_tier_that_is_sold_out_gives_way_to_the_next() -> None:
    found = world(UP)
    ladder(found, 10_000, 12_500, 16_000)
    found.product("p2", 12_500, stock=0, ladder={"name": "plans", "step": 2})
    select(found)
    assert skus(found) == [["p3"]]


def test_the_top_tier_has_nothing_above() -> None:
    found = world(UP)
    ladder(found, 10_000, 12_500)
    select(found, "p2")
    assert found.outcomes() == [("up", "suppressed", "no_candidate")]


def test_a_plan_left_for_half_an_hour_brings_the_tier_below() -> None:
    found = world(DOWN)
    ladder(found, 10_000, 12_500, 16_000)
    leave(found, "p3", NOON)
    found.pass_to(NOON + 30 * MINUTE - 1)
    assert offers(found) == []
    found.pass_to(NOON + 30 * MINUTE)
    assert [(o.at, o.items[0].sku, o.items[0].list_price) for o in offers(found)] == [
        (NOON + 30 * MINUTE, "p2", 12_500)
    ]


def test_a_plan_bought_in_minute_29_brings_no_tier_below() -> None:
    found = world(DOWN)
    ladder(found, 10_000, 12_500, 16_000)
    leave(found, "p3", NOON)
    found.buy("o1", ["p3"], NOON + 29 * MINUTE)
    found.pass_to(NOON + HOUR)
    assert found.outcomes() == []


CONCERN = {
    **UP,
    "on": "consultation.completed",
    "pick": {"tier_up_from": '"p1"', "features": "event.concerns"},
}


def test_a_concern_brings_the_tier_whose_features_match_it() -> None:
    found = world(CONCERN)
    ladder(found, 10_000, 12_500, 16_000, features={2: ["shine"], 3: ["damage", "shine"]})
    found.send("consultation.completed", concerns=["damage"])
    assert skus(found) == [["p3"]]


@pytest.mark.parametrize("concerns", [[], ["colour"]])
def test_without_a_concern_that_matches_there_is_no_up_sell(concerns: list[str]) -> None:
    found = world(CONCERN)
    ladder(found, 10_000, 12_500, 16_000, features={3: ["damage"]})
    found.send("consultation.completed", concerns=concerns)
    assert found.outcomes() == [("up", "suppressed", "no_candidate")]


def test_a_benefit_of_the_catalogue_stands_in_the_message() -> None:
    found = world({**UP, "message": {"benefit": "catalog"}})
    ladder(found, 10_000, 12_500, 16_000)
    faster = {"ja": "速い", "en": "faster"}
    found.product("p3", 16_000, ladder={"name": "plans", "step": 3}, benefit=faster)
    select(found)
    assert skus(found) == [["p3"]]  # p2 states no benefit: it is passed over
    assert body(offers(found)[0])["message"] == {"benefit": faster}


def test_a_benefit_in_one_language_is_none() -> None:
    found = world({**UP, "message": {"benefit": "catalog"}})
    ladder(found, 10_000)
    rung = {"name": "plans", "step": 2}
    found.product("p2", 12_500, ladder=rung, benefit={"en": "faster"})
    select(found)
    assert found.outcomes() == [("up", "suppressed", "no_candidate")]


# --- sets ---

SET = {"id": "set", "on": "checkout.plan_selected", "pick": {"bundle_with": "event.plan"}}
EXTRAS = ["honey", "strainer", "mug"]


def tea(price: int, **rule: Any) -> World:
    """Sleep blend 1,600, honey 1,000, strainer 600, mug 800: 4,000 in all."""
    found = world({**SET, **rule})
    for sku, each in (("sleep", 1_600), ("honey", 1_000), ("strainer", 600), ("mug", 800)):
        found.product(sku, each)
    bundle(found, "night", ["sleep", *EXTRAS], price, ja="夜のくつろぎ", en="Night relaxation")
    return found


@pytest.mark.parametrize(
    ("price", "fits"), [(3_799, False), (3_800, True), (3_880, True), (3_881, False)]
)
def test_a_set_costs_3_to_5_percent_less_than_its_parts(price: int, fits: bool) -> None:
    found = tea(price)
    out = found.send("checkout.plan_selected", plan="sleep", price=1, currency="JPY")
    if fits:
        (offer,) = offers(found)
        assert sum(item.offer_price for item in offer.items) == price
        assert body(offer)["saving"] == 4_000 - price
    else:
        assert found.outcomes() == [("set", "suppressed", "no_candidate")]
        assert out.notes["bundle_out_of_bounds"] == 1


def test_a_sets_price_is_shared_in_proportion_and_the_rest_is_on_the_first() -> None:
    found = tea(3_881 - 2)
    select(found, "sleep")
    # 3,879 of 4,000: 1,551.6, 969.75, 581.85 and 775.8, rounded down; 3 yen are left over.
    assert [(i.sku, i.list_price, i.offer_price) for i in offers(found)[0].items] == [
        ("sleep", 1_600, 1_554),
        ("honey", 1_000, 969),
        ("strainer", 600, 581),
        ("mug", 800, 775),
    ]


def test_a_sets_theme_is_its_story_in_both_languages() -> None:
    found = tea(3_880)
    select(found, "sleep")
    story = body(offers(found)[0])["message"]["story"]
    assert story == {"ja": "夜のくつろぎ", "en": "Night relaxation"}


def test_a_set_with_a_part_that_is_owned_is_passed_over() -> None:
    found = tea(3_880)
    found.buy("o1", ["mug"])
    select(found, "sleep")
    assert found.outcomes() == [("set", "suppressed", "already_owned")]


def test_the_product_that_a_set_is_built_around_may_be_owned() -> None:
    found = tea(3_880)
    found.buy("o1", ["sleep"])
    select(found, "sleep")
    assert skus(found) == [["sleep", *EXTRAS]]


def test_a_set_with_a_part_that_is_sold_out_is_passed_over() -> None:
    found = tea(3_880)
    found.product("honey", 1_000, stock=0)
    select(found, "sleep")
    assert found.outcomes() == [("set", "suppressed", "out_of_stock")]


def test_a_book_may_allow_a_sets_price_with_a_reason() -> None:
    found = World(make_book(SET, allow=[{"bundles": ["night"], "reason": "opening week"}]))
    found.product("sleep", 2_000)
    found.product("mug", 2_000)
    bundle(found, "night", ["sleep", "mug"], 3_500)
    select(found, "sleep")
    assert [i.offer_price for i in offers(found)[0].items] == [1_750, 1_750]


ENERGY = {
    "id": "energy",
    "on": "device.change_started",
    "pick": {"bundle_with": '"energy"', "leave_out_owned": True},
    "message": {"benefit": {"ja": "ひとつのアプリで", "en": "One app for both"}},
}


def energy() -> World:
    found = world(ENERGY)
    for sku, family in (("power-s", "power"), ("power-m", "power"), ("gas-m", "gas")):
        found.product(sku, 5_000, family=family)
    bundle(found, "energy", ["power-m", "gas-m"], 9_600)
    return found


def test_a_set_contract_lists_its_discount_and_what_is_simpler() -> None:
    found = energy()
    found.send("device.change_started")
    data = body(offers(found)[0])
    assert [item["sku"] for item in data["items"]] == ["power-m", "gas-m"]
    assert (data["saving"], data["message"]["benefit"]["en"]) == (400, "One app for both")


@pytest.mark.parametrize("held", ["power-m", "power-s"])
def test_a_household_that_holds_power_gets_gas_only_at_its_list_price(held: str) -> None:
    found = energy()
    found.buy("o1", [held])
    found.send("device.change_started")
    assert [(i.sku, i.offer_price) for i in offers(found)[0].items] == [("gas-m", 5_000)]


def test_power_under_contract_is_power_held() -> None:
    found = energy()
    found.send(
        "contract.started", contract_id="c", plan="power-s", renews_at="2027-01-01T00:00:00Z"
    )
    found.send("device.change_started")
    assert skus(found) == [["gas-m"]]


def test_a_household_that_holds_both_gets_neither() -> None:
    found = energy()
    found.buy("o1", ["power-s", "gas-m"])
    found.send("device.change_started")
    assert found.outcomes() == [("energy", "suppressed", "already_owned")]


# --- modules ---

MODULE = {
    "id": "module",
    "on": ["problem.reported", "deployment.completed"],
    "pick": {"next_module_after": "customer.deployed"},
}


def saas() -> World:
    found = world(MODULE)
    found.product("crm", 10_000)
    for sku, pain in (("ma", "leads"), ("sfa", "visits"), ("bi", "numbers")):
        found.product(sku, 5_000, requires=["crm"], features=[pain])
    return found


def pain(found: World, tag: str) -> None:
    found.send("problem.reported", tag=tag)


def deploy(found: World, product: str) -> None:
    found.send("deployment.completed", product=product)


def test_without_the_base_no_module_is_offered() -> None:
    found = saas()
    pain(found, "leads")
    assert found.outcomes() == [("module", "suppressed", "no_candidate")]


def test_a_pain_brings_the_module_whose_features_match() -> None:
    found = saas()
    deploy(found, "crm")
    assert skus(found) == []
    pain(found, "leads")
    assert skus(found) == [["ma"]]


def test_a_pain_that_no_module_helps_with_brings_none() -> None:
    found = saas()
    deploy(found, "crm")
    pain(found, "coffee")
    assert skus(found) == []


def test_of_two_pains_the_one_reported_more_often_comes_first() -> None:
    found = saas()
    for tag in ("leads", "visits", "visits"):
        pain(found, tag)
    deploy(found, "crm")
    assert skus(found) == [["sfa"]]


def test_the_next_module_waits_until_the_last_one_is_deployed() -> None:
    found = saas()
    for tag in ("leads", "visits", "visits"):
        pain(found, tag)
    deploy(found, "crm")
    found.buy("o1", ["sfa"])
    pain(found, "leads")
    assert skus(found) == [["sfa"]]
    deploy(found, "sfa")
    assert skus(found) == [["sfa"], ["ma"]]


def test_a_module_that_needs_two_others_waits_for_both() -> None:
    found = saas()
    found.product("ai", 5_000, requires=["crm", "ma"], features=["magic"])
    deploy(found, "crm")
    pain(found, "magic")
    assert skus(found) == []
    deploy(found, "ma")
    assert skus(found) == [["ai"]]


# --- supplies ---

PRINTER = {
    "id": "ink",
    "on": ["purchase.completed", "usage.recorded"],
    "about": "customer",
    "once_per": "14d",
    "before": {"date": 'run_out_by_usage("printer", "90d", "pages", 3000.0)', "by": "7d"},
    "pick": {"replenishes": '"printer"'},
}


def printer() -> World:
    found = world(PRINTER)
    found.product("printer", 20_000)
    found.product("ink", 3_000)
    relate(found, "printer", "ink", "replenishes")
    found.buy("o1", ["printer"], NOON)
    return found


def test_supplies_are_offered_a_week_before_they_run_out() -> None:
    found = printer()
    found.pass_to(NOON + 83 * DAY - SECOND)
    assert offers(found) == []
    found.pass_to(NOON + 83 * DAY)
    assert [(o.at, o.items[0].sku) for o in offers(found)] == [(NOON + 83 * DAY, "ink")]


def test_real_usage_moves_the_clock() -> None:
    found = printer()
    # 1,000 of 3,000 pages in 20 days: the other 2,000 last 40 days more, to day 60.
    found.send("usage.recorded", NOON + 20 * DAY, metric="pages", value=1000)
    found.pass_to(NOON + 53 * DAY - SECOND)
    assert offers(found) == []
    found.pass_to(NOON + 53 * DAY)
    assert [offer.at for offer in offers(found)] == [NOON + 53 * DAY]


def test_a_refill_sets_the_clock_back() -> None:
    found = printer()
    found.buy("o2", ["ink"], NOON + 30 * DAY)
    found.pass_to(NOON + 113 * DAY - SECOND)
    assert offers(found) == []
    found.pass_to(NOON + 113 * DAY)
    assert skus(found) == [["ink"]]


def test_who_never_bought_a_printer_has_no_clock() -> None:
    found = printer()
    other = World(found.book)
    other.catalog = found.catalog
    other.buy("o1", ["chair"], NOON)
    other.pass_to(NOON + 200 * DAY)
    assert other.outcomes() == []


def test_a_complements_story_comes_from_the_catalogue() -> None:
    found = world({**CHAIR, "message": {"story": "catalog"}})
    found.product("chair")
    found.product("rug")
    relate(found, "chair", "rug", "complement", ja="在宅", en="Home office")
    found.add("chair")
    assert body(offers(found)[0])["message"]["story"] == {"ja": "在宅", "en": "Home office"}


def test_readings_after_the_offer_bring_no_second_one() -> None:
    found = printer()
    found.pass_to(NOON + 83 * DAY)
    found.send("usage.recorded", NOON + 84 * DAY, metric="pages", value=2500)
    found.send("usage.recorded", NOON + 85 * DAY, metric="pages", value=10)
    found.pass_to(NOON + 96 * DAY)
    assert len(offers(found)) == 1


def test_a_clock_stops_when_the_order_is_given_back() -> None:
    found = printer()
    found.send("purchase.refunded", NOON + DAY, order_id="o1")
    found.send("usage.recorded", NOON + 2 * DAY, metric="pages", value=10)
    found.pass_to(NOON + 200 * DAY)
    assert offers(found) == []


# --- the pack before an exam ---

PACK = {
    "id": "pack",
    "on": "assessment.completed",
    "when": [
        "has(event.exam_at)",
        'timestamp(event.exam_at) - at >= duration("336h")',
    ],
    "pick": {"complements_of": '"course"', "features": "event.weak_areas"},
}


@pytest.mark.parametrize(
    ("areas", "exam", "offered"),
    [
        (["algebra"], 60 * DAY, [["pack-a"]]),
        (["algebra"], 14 * DAY, [["pack-a"]]),
        (["algebra"], 14 * DAY - SECOND, []),
        (["algebra"], 2 * DAY, []),
        (["history"], 60 * DAY, []),
        ([], 60 * DAY, []),
    ],
)
def test_a_weak_area_brings_its_pack_when_the_exam_is_not_too_near(
    areas: list[str], exam: int, offered: list[Any]
) -> None:
    found = world(PACK)
    found.product("course")
    found.product("pack-a", 9_000, features=["algebra"])
    found.product("pack-g", 9_000, features=["geometry"])
    for sku in ("pack-a", "pack-g"):
        found.complement("course", sku)
    at = to_text(NOON + exam)
    found.send("assessment.completed", NOON, weak_areas=areas, exam_at=at)
    assert skus(found) == offered


# --- the gap, closed by what others bought ---


@pytest.mark.parametrize(("support", "offered"), [(2, [["cup"]]), (3, [])])
def test_the_gap_is_closed_by_what_others_bought_with_it(support: int, offered: list[Any]) -> None:
    pick = {"closes_gap_to": 5000, "from": "bought_together_with", "min_support": support}
    found = Crowd(make_book({**GAP, "pick": pick}))
    for sku, price in (("tea", 4_000), ("cup", 1_200), ("spoon", 700)):
        found.product(sku, price)
    for customer in ("c2", "c3"):
        found.become(customer).buy("o", ["tea", "cup", "spoon"])
    found.become("c1").add("tea", price=4_000)
    assert skus(found) == offered


def test_a_gap_closed_from_complements_learns_nothing() -> None:
    assert make_book(GAP).learning == {}
