"""The catalogue's relations as a graph: out as they came in, none to itself, no circles."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from streams.check import run_check
from streams.cli import app
from streams.codec import LineDoor
from triggers.catalog import Catalog
from triggers.errors import Refused
from triggers.relationgraph import circles

CAMERA_SHOP = Path(__file__).parents[2] / "examples" / "camera-shop"


def event(kind: str, sku: str, **data: Any) -> bytes:
    head = {"specversion": "1.0", "id": sku, "source": "shop", "time": "2026-03-02T12:00:00Z"}
    return json.dumps({**head, "type": f"catalog.{kind}", "subject": sku, "data": data}).encode()


def related(sku: str, to: str, relation: str) -> bytes:
    return event("relation_set", sku, to=to, relation=relation, weight=0.5)


def needing(sku: str, *requires: str) -> bytes:
    return event("product_set", sku, name=sku, price=1, currency="JPY", requires=list(requires))


def catalog_of(*lines: bytes) -> Catalog:
    catalog, door = Catalog(), LineDoor()
    for line in lines:
        found = door.decode(line)
        catalog.apply(found.type, found.subject, found.data)
    return catalog


@pytest.mark.covers("B6")
@pytest.mark.parametrize("relation", ["complement", "alternative", "replenishes"])
def test_a_relation_to_itself_is_refused(relation: str) -> None:
    with pytest.raises(Refused, match="no relation to itself") as refused:
        catalog_of(related("a", "a", relation))
    assert refused.value.reason == "bad_data"
    assert list(catalog_of(related("a", "b", relation)).relations("a"))


def test_a_product_that_requires_itself_is_refused() -> None:
    with pytest.raises(Refused, match="does not require itself"):
        catalog_of(needing("a", "b", "a"))
    assert catalog_of(needing("a", "b")).product("a") is not None


@pytest.mark.covers("B6")
def test_circles_are_found_whatever_their_order() -> None:
    ways = [related("b", "c", "replenishes"), related("c", "a", "replenishes")]
    assert list(circles(catalog_of(*ways))) == []
    closing = related("a", "b", "replenishes")
    expected = [("replenishes", ["a", "b", "c", "a"])]
    assert list(circles(catalog_of(*ways, closing))) == expected
    assert list(circles(catalog_of(closing, *reversed(ways)))) == expected
    modules = catalog_of(needing("crm", "mail"), needing("mail", "crm"))
    assert list(circles(modules)) == [("requires", ["crm", "mail", "crm"])]


def test_complements_may_go_both_ways() -> None:
    both = [related("chair", "desk", "complement"), related("desk", "chair", "complement")]
    assert list(circles(catalog_of(*both))) == []


@pytest.mark.covers("B6")
def test_check_names_a_circle_at_its_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "catalog.jsonl"
    lines = [related("b", "a", "replenishes"), related("a", "b", "replenishes")]
    file.write_bytes(b"\n".join(lines))
    assert run_check(CAMERA_SHOP / "rules", catalog=file) == 1
    said = capsys.readouterr().err.splitlines()
    assert said == [
        f"{file}:2:1: replenishes leads in a circle: a > b > a; take one of them out",
    ]


@pytest.mark.covers("B6")
def test_the_graph_that_is_written_equals_what_came_in(tmp_path: Path) -> None:
    out = tmp_path / "graph.jsonl"
    catalog = CAMERA_SHOP / "catalog.jsonl"
    command = ["check", str(CAMERA_SHOP / "rules"), "--catalog", str(catalog), "--graph", str(out)]
    assert CliRunner().invoke(app, command).exit_code == 0
    came_in = [json.loads(line) for line in catalog.read_text(encoding="utf-8").splitlines()]
    wanted = [
        {"sku": one["subject"], **one["data"]}
        for one in came_in
        if one["type"] == "catalog.relation_set"
    ]
    written = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert len(written) == 15
    assert written == sorted(wanted, key=lambda one: (one["sku"], one["to"]))


def test_a_graph_needs_a_catalogue(tmp_path: Path) -> None:
    command = ["check", str(CAMERA_SHOP / "rules"), "--graph", str(tmp_path / "graph.jsonl")]
    assert CliRunner().invoke(app, command).exit_code == 2
