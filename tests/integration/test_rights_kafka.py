"""A worker's user at the broker: with the rights that the documentation names it works, without
one of them it ends and says which.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from kafka import KafkaAdminClient
from kafka.admin import ACL, ACLOperation, ACLPermissionType, ResourcePattern, ResourceType

from streams.embedded import EmbeddedStore
from streams.rulefiles import load_book
from streams.topics import rights
from tests.faults.kit import wait_for
from tests.integration.pipeline import RULES, Pipeline, secrets_in
from tests.integration.test_tls_kafka import offer_is_made, refusal
from tests.kafka_server import BOUND_USER, SASL_PASSWORD, KafkaServer

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(300)]


class Rules:
    """The broker's rules for the bound user, as we made them."""

    def __init__(self, address: str) -> None:
        self._admin = KafkaAdminClient(bootstrap_servers=address)

    def close(self) -> None:
        self._admin.close()

    def allow(self, rules: list[ACL]) -> None:
        done = self._admin.create_acls(rules)
        assert done["failed"] == []
        self._await(rules, there=True)

    def forbid(self, rule: ACL) -> None:
        self._admin.delete_acls([rule])
        self._await([rule], there=False)

    def _await(self, rules: list[ACL], there: bool) -> None:
        # The broker learns its own rules from its log, a moment later.
        for rule in rules:
            wait_for("the rule holds", lambda: self._has(rule) is there, 10)  # noqa: B023

    def _has(self, rule: ACL) -> bool:
        found, _ = self._admin.describe_acls(rule)
        return bool(found)


def rule(kind: ResourceType, name: str, operation: str) -> ACL:
    return ACL(
        principal=f"User:{BOUND_USER}",
        host="*",
        operation=ACLOperation[operation],
        permission_type=ACLPermissionType.ALLOW,
        resource_pattern=ResourcePattern(kind, name),
    )


@pytest.fixture
def pipeline(kafka: KafkaServer, server: EmbeddedStore, tmp_path: Path) -> Iterator[Pipeline]:
    if not kafka.sasl_address:
        pytest.skip("this broker has no listener with passwords")
    made = Pipeline(kafka.address, server.url, tmp_path)
    made.change(
        kafka=kafka.sasl_address,
        kafka_security="SASL_PLAINTEXT",
        kafka_username=BOUND_USER,
        secrets=secrets_in(tmp_path / "secrets", kafka_password=SASL_PASSWORD),
    )
    yield made
    made.close()


@pytest.fixture
def rules(kafka: KafkaServer) -> Iterator[Rules]:
    made = Rules(kafka.address)
    yield made
    made.close()


def test_a_worker_works_with_just_its_rights_and_says_which_one_is_missing(
    pipeline: Pipeline, rules: Rules
) -> None:
    topics = {
        (name, operation): rule(ResourceType.TOPIC, pipeline.prefix + name, operation)
        for name, operations in rights(load_book(RULES)).items()
        for operation in operations
    }
    group = rule(ResourceType.GROUP, pipeline.settings.group, "READ")
    rules.allow([*topics.values(), group])
    assert offer_is_made(pipeline)
    for name, operation, told in (
        ("decisions", "WRITE", f"topic {pipeline.prefix}decisions: this user may not Write"),
        ("learned", "READ", f"topic {pipeline.prefix}learned: this user may not Read"),
        # Who may not read it may not see it either.
        ("cart", "READ", f"topic {pipeline.prefix}cart is missing"),
    ):
        lacking = topics[name, operation]
        rules.forbid(lacking)
        assert told in refusal(pipeline)
        rules.allow([lacking])
    seen = rule(ResourceType.TOPIC, pipeline.prefix + "cart", "DESCRIBE")
    rules.allow([seen])
    rules.forbid(topics["cart", "READ"])
    assert f"topic {pipeline.prefix}cart: this user may not Read" in refusal(pipeline)
    rules.allow([topics["cart", "READ"]])
    rules.forbid(group)
    refusal(pipeline)
    ends = [line for line in pipeline.workers[-1].log.read_text().splitlines() if "ends" in line]
    assert any(
        "GroupAuthorizationFailedError" in line and pipeline.settings.group in line for line in ends
    ), ends
