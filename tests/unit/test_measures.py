"""Each named measure against a recount of the raw events by SQL, and at its borders."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from tests.unit.logbook import DAY, HOUR, MINUTE, START, Logbook
from triggers.groups import GROUP_MEASURES, NOT_TOLD
from triggers.measures import MEASURES

SEEDS = (1, 2, 3)


def measured(log: Logbook, folder: Path, days: int = 7) -> dict[str, Any]:
    found = log.report(folder, days)["measures"]
    assert isinstance(found, dict)
    return found


def shop(seed: int) -> Logbook:
    """Half a year of a shop with families, a ladder, a bundle, contracts, refunds and visits."""
    chance = random.Random(seed)
    log = Logbook()
    for number in range(10):
        margin = {"margin": 0.37} if number % 3 == 0 else {}
        log.product(f"p{number}", 300 + number, family=f"f{number % 4}", **margin)
    for step in (1, 2, 3):
        ladder = {"name": "menu", "step": step}
        log.product(f"m{step}", 1000 * step, ladder=ladder, family="menu")
    log.event(
        "catalog.bundle_set", "set", START - DAY, items=["p1", "p2"], price=500, currency="JPY"
    )
    log.product("tea", 900, family="tea")
    skus = [*(f"p{number}" for number in range(10)), "m1", "m2", "m3", "set", "strange"]
    for number in range(60):
        _customer(log, chance, f"c{number}", skus)
    log.event("product.viewed", "last", START + 210 * DAY, sku="p0")
    return log


def _customer(log: Logbook, chance: random.Random, who: str, skus: list[str]) -> None:
    groups: list[dict[str, str]] = [{}, {"plan": "gold"}, {"plan": "iron"}]
    attributes = chance.choice(groups)
    if attributes:
        log.event("customer.profile_set", who, START, attributes=attributes)
    quiet_from = chance.choice((60, 110, 200))
    for visit in range(chance.randrange(4)):
        at = START + chance.randrange(quiet_from * 24) * HOUR
        log.event("product.viewed", who, at, sku="p0")
        gap = chance.choice((29 * MINUTE, 30 * MINUTE))
        log.event("cart.viewed", who, at + gap, cart_id=f"{who}{visit}", subtotal=0, currency="JPY")
    for order in range(chance.randrange(5)):
        at = START + chance.randrange(quiet_from * 24) * HOUR + 1
        lines = [
            (sku, chance.randrange(1, 4), chance.randrange(100, 900))
            for sku in chance.sample(skus, chance.randrange(1, 5))
        ]
        log.buy(who, f"{who}o{order}", at, *lines)
        for times in range(chance.choice((0, 0, 1, 2))):
            amount = chance.choice(({}, {"total": 150}, {"total": 999}))
            when = at + (times + 1) * DAY
            log.event("purchase.refunded", who, when, order_id=f"{who}o{order}", **amount)
    for contract in range(chance.choice((0, 0, 1, 2))):
        at = START + chance.randrange(195) * DAY
        name = f"{who}t{contract}"
        fields = {"contract_id": name, "plan": "tea", "renews_at": "2027-01-01T00:00:00Z"}
        log.event("contract.started", who, at, **fields)
        ended = at + chance.choice((10, 30, 31, 400)) * DAY
        if ended < START + 210 * DAY:
            log.event("contract.ended", who, ended, contract_id=name)
    if chance.random() < 0.5:
        marks = {"ticket_id": who, "csat": chance.randrange(1, 6)}
        log.event("support.resolved", who, START + DAY, **marks)
        log.event("product.reviewed", who, START + DAY, sku="p1", stars=chance.randrange(1, 6))


#: Measure -> its figure by SQL over the raw events; ``?1`` is the end of the log.
RECOUNTS = {
    "orders": "select count(*) from live",
    "revenue": "select sum(total - refunded) from live",
    "aov": "select sum(total - refunded) / count(*) from live",
    "ticket": "select avg(total) from orders",
    "tenure_days": """select avg((?1 - first) / 86400000)
        from (select min(at) first from live group by who)""",
    "ltv": """select avg(cast(micro / 1000000 as integer)) from (
        select o.who, sum(m - (m * refunded + total - 1) / total) micro from live o join (
            select l.id, sum(l.quantity * l.price * cast(
                round(coalesce(p.margin, 1.0) * 1000000) as integer)) m
            from line l left join product p on p.sku = l.sku group by l.id) v on v.id = o.id
        group by o.who)""",
    "unit_price": "select 1.0 * sum(quantity * price) / sum(quantity) from line",
    "items_per_order": "select 1.0 * sum(quantity) / count(distinct id) from line",
    "shipping_cost": "select 1.0 * count(distinct id) / sum(quantity) from line",
    "repeat_rate": "select avg(n >= 2) from (select count(*) n from live group by who)",
    "satisfaction": "select avg(data->>'csat') from event where type = 'support.resolved'",
    "stars": "select avg(data->>'stars') from event where type = 'product.reviewed'",
    "revisit_rate": """select avg(visits >= 2) from (select who, sum(new) visits from (
        select who, at - lag(at, 1, 0) over (partition by who order by n) >= 1800000 new
        from event where type in ('product.viewed', 'cart.viewed')) group by who)""",
    "set_ratio": """select avg(whole) from (select max(sku = 'set')
        or (max(sku = 'p1') and max(sku = 'p2')) whole from line group by id)""",
    "subscription_retention": """select avg(e.at is null or e.at - s.at > 30 * 86400000)
        from event s left join event e on e.type = 'contract.ended'
            and e.data->>'contract_id' = s.data->>'contract_id'
        where s.type = 'contract.started' and s.at + 30 * 86400000 <= ?1""",
}

HELD = """with held as (
    select o.who, p.family from live o join line l on l.id = o.id join product p on p.sku = l.sku
    union select who, 'tea' from event where type = 'contract.started'),
bucket as (select who, min(count(distinct family), 3) families from held where family <> ''
    group by who)"""
LEFT = """(case when exists (select 1 from event e where e.who = b.who and e.type like 'contract%')
    then not exists (select 1 from event s where s.who = b.who and s.type = 'contract.started'
        and not exists (select 1 from event e where e.type = 'contract.ended'
            and e.data->>'contract_id' = s.data->>'contract_id'))
    else ?1 - (select max(at) from event e where e.who = b.who) >= 90 * 86400000 end)"""


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", RECOUNTS)
@pytest.mark.covers("A12f", "A13d", "B16k")
def test_measures_of_a_shop_equal_a_recount_of_the_raw_events(
    name: str, seed: int, tmp_path: Path
) -> None:
    log = shop(seed)
    end = (START + 210 * DAY,) if "?1" in RECOUNTS[name] else ()
    found = measured(log, tmp_path)[name]
    assert found == pytest.approx(log.one(RECOUNTS[name], *end), rel=1e-12)
    assert found


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.covers("A10")
def test_churn_by_held_product_families_equals_a_recount(seed: int, tmp_path: Path) -> None:
    log = shop(seed)
    found = measured(log, tmp_path)
    end = START + 210 * DAY
    query = f"{HELD} select families, count(*), avg({LEFT}) from bucket b group by 1"
    rows = {"3+" if row[0] == 3 else str(row[0]): row[1:] for row in log.sql(query, end)}
    assert found["held_families"] == {bucket: count for bucket, (count, _) in rows.items()}
    assert found["churn_by_families"] == pytest.approx({b: left for b, (_, left) in rows.items()})
    assert set(rows) == {"1", "2", "3+"}
    assert len(set(found["churn_by_families"].values())) > 1


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.covers("A13d")
def test_the_mix_of_a_menu_equals_a_recount(seed: int, tmp_path: Path) -> None:
    log = shop(seed)
    rows = log.sql(
        """select 'menu/' || p.step, 1.0 * sum(quantity) / sum(sum(quantity)) over ()
        from line l join product p on p.sku = l.sku where p.ladder = 'menu' group by p.step"""
    )
    assert measured(log, tmp_path)["menu_mix"] == pytest.approx(dict(rows))
    assert len(rows) == 3


@pytest.mark.parametrize("seed", SEEDS)
def test_groups_of_customers_are_measured_like_all_of_them(seed: int, tmp_path: Path) -> None:
    log = shop(seed)
    groups = log.report(tmp_path, by="plan")["groups"]
    assert list(groups) == [NOT_TOLD, "gold", "iron"]
    for group in ("gold", "iron"):
        alone = Logbook()
        members = {
            e["subject"] for e in log.events if e["data"].get("attributes") == {"plan": group}
        }
        alone.events = [
            e for e in log.events if e["subject"] in members or e["type"].startswith("catalog.")
        ]
        alone.event("product.viewed", "nobody", START + 210 * DAY, sku="p0")
        wanted = measured(alone, tmp_path)
        assert groups[group]["customers"] == len(members)
        assert {n: groups[group][n] for n in GROUP_MEASURES} == {
            n: wanted[n] for n in GROUP_MEASURES
        }


@pytest.mark.covers("A2")
def test_after_three_orders_aov_tenure_and_ltv_are_those_computed_by_hand(tmp_path: Path) -> None:
    log = Logbook()
    log.product("tea", 1000, margin=0.333)
    log.buy("c", "o1", START, ("tea", 3, 1001))
    log.buy("c", "o2", START + 10 * DAY, ("tea", 1, 999), ("unknown", 1, 500))
    log.buy("c", "o3", START + 20 * DAY, ("tea", 1, 700))
    log.event("purchase.refunded", "c", START + 21 * DAY, order_id="o3", total=100)
    log.event("product.viewed", "c", START + 31 * DAY - 1, sku="tea")
    found = measured(log, tmp_path)
    paid = 3 * 1001 + 999 + 500 + 700 - 100
    assert (found["orders"], found["revenue"], found["aov"]) == (3, paid, paid // 3)
    assert found["tenure_days"] == 30
    # 999.999 + 332.667 + 500 + 233.1 - 33.3 = 2032.466
    assert found["ltv"] == 2032


@pytest.mark.parametrize(("silent", "gone"), [(90 * DAY, 1.0), (90 * DAY - 1, 0.0)])
def test_a_customer_without_a_contract_left_after_ninety_silent_days(
    silent: int, gone: float, tmp_path: Path
) -> None:
    log = Logbook()
    log.product("p", family="f")
    log.buy("c", "o", START, ("p", 1, 1000))
    log.event("product.viewed", "x", START + silent, sku="p")
    assert measured(log, tmp_path)["churn_by_families"] == {"1": gone}


@pytest.mark.parametrize(
    ("skus", "ratio"),
    [(("a", "b"), 1.0), (("a", "c"), 0.0), (("set",), 1.0), (("a", "b", "c"), 1.0)],
)
def test_an_order_is_a_set_with_all_its_skus_and_not_with_one_of_them(
    skus: tuple[str, ...], ratio: float, tmp_path: Path
) -> None:
    log = Logbook()
    fields = {"items": ["a", "b"], "price": 1900, "currency": "JPY"}
    log.event("catalog.bundle_set", "set", START - DAY, **fields)
    log.buy("c", "o", START, *((sku, 1, 1000) for sku in skus))
    assert measured(log, tmp_path)["set_ratio"] == ratio


def school(seed: int) -> Logbook:
    """Courses in three steps, results as attributes and as events, and referrals."""
    chance = random.Random(seed)
    log = Logbook()
    for step in (1, 2, 3):
        log.product(f"course{step}", 10_000 * step, ladder={"name": "course", "step": step})
    for number in range(80):
        who = f"s{number}"
        at = START + number * HOUR
        step = chance.randrange(4)
        if step:
            name = f"course{step}"
            if chance.random() < 0.5:
                log.buy(who, f"{who}o", at, (name, 1, 10_000 * step))
                if chance.random() < 0.3:
                    log.event("purchase.cancelled", who, at + DAY, order_id=f"{who}o")
            else:
                fields = {"contract_id": who, "plan": name, "renews_at": "2027-03-31T00:00:00Z"}
                log.event("contract.started", who, at, **fields)
        attributes: dict[str, Any] = {}
        if chance.random() < 0.3:
            attributes["referred_by"] = f"s{number - 1}"
        result = chance.choice(("told", "event", "none"))
        passed = chance.random() < 0.6
        if result == "told":
            attributes["exam_passed"] = passed
        if attributes:
            log.event("customer.profile_set", who, at + DAY, attributes=attributes)
        if result == "event":
            log.event("exam.failed", who, at + DAY, course="maths")
            if passed:
                log.event("exam.passed", who, at + 2 * DAY, course="maths")
        for times in range(chance.randrange(3)):
            log.event("referral.made", who, at + times, friend="somebody")
    return log


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.covers("A14e")
def test_measures_of_a_school_equal_a_recount_of_attributes_and_events(
    seed: int, tmp_path: Path
) -> None:
    log = school(seed)
    found = measured(log, tmp_path)
    assert found["referrals"] == log.one("select count(*) from event where type = 'referral.made'")
    assert found["referred_customers"] == log.one(
        "select count(*) from event where data->'attributes'->>'referred_by' <> ''"
    )
    assert found["pass_rate"] == pytest.approx(
        log.one(
            """select avg(passed) from (select who, max(case when type = 'exam.passed' then 1
                when type = 'exam.failed' then 0 else data->'attributes'->>'exam_passed' end) passed
            from event where type like 'exam.%'
                or data->'attributes'->>'exam_passed' is not null group by who)"""
        )
    )
    upper = log.one(
        """select avg(sku = 'course3') from (
        select o.who, l.sku from live o join line l on l.id = o.id
        union all select who, data->>'plan' from event where type = 'contract.started')"""
    )
    assert found["upper_course_share"] == pytest.approx({"course": upper})
    assert 0 < upper < 1


def hotel(seed: int) -> Logbook:
    """Guests who put plans back, book, arrive, buy in the house and leave."""
    chance = random.Random(seed)
    log = Logbook()
    for plan, price in (("suite", 30_000), ("single", 9_000)):
        log.product(plan, price)
    for number in range(80):
        who, at = f"g{number}", START + number * HOUR
        if chance.random() < 0.7:
            fields = {"plan": "suite", "price": 30_000, "currency": "JPY"}
            log.event("checkout.plan_left", who, at, **fields)
            log.event("checkout.plan_left", who, at + HOUR, **fields)
        booked = at + chance.choice((2 * HOUR, 7 * DAY, 7 * DAY + 1))
        arrives = booked + chance.choice((0, 20 * DAY)) + 1
        plan, nights = chance.choice(("suite", "single")), chance.randrange(1, 4)
        if chance.random() < 0.7:
            log.buy(who, f"{who}room", booked, (plan, nights, chance.randrange(7_000, 30_000)))
        if chance.random() < 0.7:
            stay = {"stay_id": who, "plan": plan}
            log.event("stay.checked_in", who, arrives, **stay)
            for extra in range(chance.randrange(3)):
                log.buy(who, f"{who}x{extra}", arrives + HOUR + extra, ("drink", 1, 800))
            leaves = arrives + (nights - 1) * DAY + chance.choice((20 * HOUR, 11 * HOUR))
            if chance.random() < 0.9:
                log.event("stay.checked_out", who, leaves, **stay)
    return log


STAYS = """with stay as (select i.who, i.at came, o.at went, i.data->>'plan' plan,
    max(1, (o.at - i.at + 43200000) / 86400000) nights
    from event i join event o on o.who = i.who and o.type = 'stay.checked_out'
    where i.type = 'stay.checked_in')"""


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.covers("A15c")
def test_measures_of_a_hotel_equal_a_recount_of_the_raw_events(seed: int, tmp_path: Path) -> None:
    log = hotel(seed)
    found = measured(log, tmp_path)
    assert found["adr"] == pytest.approx(
        log.one(
            f"""{STAYS} select 1.0 * sum(coalesce((select l.quantity * l.price from line l
                where l.who = s.who and l.sku = s.plan and l.at <= s.came),
                (select price from product where sku = s.plan) * nights)) / sum(nights)
            from stay s"""
        )
    )
    assert found["onsite_add_rate"] == pytest.approx(
        log.one(
            f"""{STAYS} select avg(exists (select 1 from orders o
                where o.who = s.who and o.at between s.came and s.went)) from stay s"""
        )
    )
    assert found["vacancy_fill"] == pytest.approx(
        log.one(
            """select avg((select min(at) from event e where e.who = l.who and e.at > l.at
                and e.type in ('purchase.completed', 'stay.checked_in')) - l.at <= 7 * 86400000
                is true)
            from (select who, min(at) at from event where type = 'checkout.plan_left'
                group by who) l"""
        )
    )


def downsold(offered: int, held_out: int, room: int, added: int) -> Logbook:
    """Guests who were offered a cheaper plan beside guests held out, who pay 10,000 and 500."""
    log = Logbook()
    for arm, count, price, more in (
        ("offered", offered, room, added),
        ("held_out", held_out, 10_000, 500),
    ):
        for number in range(count):
            who, at = f"{arm}{number}", START + number * MINUTE
            log.decide(who, "room-only", at, arm, kind="down_sell")
            log.buy(who, f"{who}r", at + HOUR, ("room", 1, price + 100 * (number % 5)))
            stay = {"stay_id": who, "plan": "room"}
            log.event("stay.checked_in", who, at + DAY, **stay)
            log.buy(who, f"{who}x", at + DAY + HOUR, ("dinner", 1, more))
            log.event("stay.checked_out", who, at + 2 * DAY, **stay)
    return log


@pytest.mark.covers("A15c")
def test_a_downsell_that_lowers_the_total_of_a_stay_raises_an_alert(tmp_path: Path) -> None:
    body = downsold(40, 40, 8_000, 900).report(tmp_path)
    (guard,) = body["guards"]
    assert (guard["rule"], guard["state"]) == ("room-only", "alert")
    assert guard["change"] == (8_000 + 900) - (10_000 + 500)
    assert guard["low"] < guard["change"] < guard["high"] < 0
    assert body["measures"]["stay_total_change"] == {"room-only": -1600}
    assert any(alert.startswith("room-only: a stay brings 1600 less") for alert in body["alerts"])


@pytest.mark.covers("A15c")
def test_a_lower_price_that_keeps_the_total_of_a_stay_raises_none(tmp_path: Path) -> None:
    body = downsold(40, 40, 8_000, 2_500).report(tmp_path)
    assert [guard["state"] for guard in body["guards"]] == ["ok"]
    assert not any("room-only" in alert for alert in body["alerts"])


@pytest.mark.covers("A15c")
def test_a_total_one_yen_lower_is_watched_and_no_alert(tmp_path: Path) -> None:
    body = downsold(40, 40, 8_000, 2_499).report(tmp_path)
    assert [guard["state"] for guard in body["guards"]] == ["watch"]
    assert not any("room-only" in alert for alert in body["alerts"])


def test_with_one_guest_too_few_the_guard_says_nothing(tmp_path: Path) -> None:
    states = {
        held_out: downsold(40, held_out, 8_000, 900).report(tmp_path)["guards"][0]["state"]
        for held_out in (29, 30)
    }
    assert states == {29: "insufficient", 30: "alert"}


def test_an_erased_customer_leaves_sums_alone(tmp_path: Path) -> None:
    log = Logbook()
    log.buy("kept", "o1", START, ("p", 1, 1000))
    log.buy("gone", "o2", START, ("p", 1, 3000))
    log.event("customer.erase_requested", "gone", START + DAY)
    found = measured(log, tmp_path)
    assert (found["orders"], found["revenue"]) == (1, 1000)
    assert found["ticket"] == 2000


def test_every_measure_has_a_name_a_unit_and_a_meaning_of_its_own() -> None:
    assert len({measure.name for measure in MEASURES}) == len(MEASURES)
    assert len({measure.meaning for measure in MEASURES}) == len(MEASURES)
    assert all(measure.unit for measure in MEASURES)
