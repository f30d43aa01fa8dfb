"""The topics: which there are, how they are made, and whether those at hand will do."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import (
    InvalidConfigurationError,
    KafkaError,
    TopicAlreadyExistsError,
    for_code,
)

from streams.errors import PreconditionError
from streams.settings import Settings
from streams.tls import check_kafka_tls
from triggers.book import Book
from triggers.events import CATALOG, TOPICS

#: Made where no rule book says which channels there are.
DEFAULT_CHANNELS = ("call", "email", "onsite", "push", "sales", "sms")

DECISIONS = "decisions"
DEAD_LETTERS = "dead-letters"
#: Between partitions: what each learnt across its customers (``streams.learning``).
LEARNED = "learned"
#: Digests of who was erased or objected (``streams.erasure``).
ERASED = "erased"
#: Which store each partition lives in (``streams.storemarks``).
CONTROL = "control"
#: Who consented to what, when, proven by what (``streams.evidence``).
EVIDENCE = "consent-evidence"
#: Of one partition, written by all.
SHARED = frozenset({LEARNED, ERASED, EVIDENCE})
#: Which dead letters were sent once more (``streams.resend``).
REPLAYS = "replays"

_EVER = "-1"
#: Three years, and a month after the last advertisement.
EVIDENCE_DAYS = 3 * 365 + 31
_EVIDENCE_MS = str(EVIDENCE_DAYS * 86_400_000)
_ANY_MS = str(2**63 - 1)
_TIMEOUT_MS = 15_000

#: Not every broker that speaks the protocol knows these; what it does not know, it does not check.
_OPTIONAL = ("message.timestamp.before.max.ms", "message.timestamp.after.max.ms")


def channels(book: Book | None) -> tuple[str, ...]:
    """The channels that the book's rules name, sorted; without a book the usual ones."""
    if book is None:
        return DEFAULT_CHANNELS
    return tuple(sorted({rule.channel for rule in book.rules.values()}))


def output_topics(book: Book | None) -> tuple[str, ...]:
    """The topics out, without prefix."""
    return (*(f"offers.{channel}" for channel in channels(book)), DECISIONS, DEAD_LETTERS)


@dataclass(frozen=True, slots=True)
class Plan:
    """How one topic (without prefix) should be."""

    name: str
    partitions: int
    configs: Mapping[str, str]


def plan_topics(book: Book | None, partitions: int, history: bool) -> list[Plan]:
    """All topics in and out. With `history` they keep the producers' timestamps, for ever."""
    if history:
        inward = {
            "message.timestamp.type": "CreateTime",
            "retention.ms": _EVER,
            "message.timestamp.before.max.ms": _ANY_MS,
            "message.timestamp.after.max.ms": _ANY_MS,
        }
    else:
        inward = {"message.timestamp.type": "LogAppendTime"}
    outward = {"retention.ms": _EVER} if history else {}
    catalog = {**inward, "cleanup.policy": "compact"}
    return [
        Plan(CATALOG, 1, catalog),
        Plan(LEARNED, 1, {"cleanup.policy": "compact"}),
        Plan(CONTROL, 1, {"cleanup.policy": "compact"}),
        Plan(EVIDENCE, 1, {"retention.ms": _EVER if history else _EVIDENCE_MS}),
        Plan(ERASED, 1, {"cleanup.policy": "compact"}),
        Plan(REPLAYS, 1, {"cleanup.policy": "compact"}),
        *(Plan(topic, partitions, inward) for topic in TOPICS),
        *(Plan(topic, partitions, outward) for topic in output_topics(book)),
    ]


@dataclass(slots=True)
class Report:
    """What `create_topics` found and did; names are with prefix."""

    made: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {"made": self.made, "kept": self.kept, "differences": self.differences}


def create_topics(
    settings: Settings,
    *,
    rules: Path | None = None,
    partitions: int | None = None,
    history: bool = False,
    replication: int = 1,
) -> Report:
    """Make the topics that are missing and compare the others with what they should be.

    Nothing that exists is changed. Raises `PreconditionError` when Kafka is away or refuses.
    """
    book = _load(rules)
    plans = plan_topics(book, partitions or settings.partitions, history)
    report = Report()
    with admin(settings) as client:
        existing = _partition_counts(client)
        for plan in plans:
            name = settings.topic(plan.name)
            if name in existing or not _create(client, name, plan, replication):
                report.kept.append(name)
            else:
                report.made.append(name)
        if report.made:
            client.wait_for_topics(report.made, timeout_ms=_TIMEOUT_MS)
        existing = _partition_counts(client)
        kept = set(report.kept)
        old = [plan for plan in plans if settings.topic(plan.name) in kept]
        report.differences = _differences(client, settings, old, existing)
    return report


def check_topics(settings: Settings, book: Book | None) -> int:
    """The partition count that all topics share.

    Raises `PreconditionError`, which names every topic that is missing or has another count.
    """
    with admin(settings) as client:
        described = client.describe_topics()
    counts = {topic["name"]: len(topic["partitions"]) for topic in described}
    faults = topic_faults(settings, book, counts)
    if faults:
        remedy = "tsuide topics create makes what is missing"
        if settings.kafka_security != "PLAINTEXT":
            remedy += "; one that this user may not Describe looks missing, too"
        raise PreconditionError("; ".join(faults), remedy)
    allowed = {topic["name"]: topic.get("authorized_operations") or () for topic in described}
    faults = right_faults(settings, book, allowed)
    if faults:
        raise PreconditionError("; ".join(faults), "see the page on security for what to allow")
    return counts[settings.topic(TOPICS[0])]


def partition_count(settings: Settings) -> int:
    """The partition count of the customer topics; `PreconditionError` where they are missing."""
    with admin(settings) as client:
        counts = _partition_counts(client)
    name = settings.topic(TOPICS[0])
    if name not in counts:
        raise PreconditionError(f"topic {name} is missing", "tsuide topics create")
    return counts[name]


def topic_faults(settings: Settings, book: Book | None, counts: Mapping[str, int]) -> list[str]:
    """What stands against a start, given the partition count of each topic in Kafka."""
    single = (CATALOG, LEARNED, ERASED, CONTROL, EVIDENCE)
    wanted = [settings.topic(name) for name in (*single, *TOPICS, *output_topics(book))]
    faults = [f"topic {name} is missing" for name in wanted if name not in counts]
    faults += [
        f"topic {name} has {counts[name]} partitions and must have 1"
        for name in wanted[: len(single)]
        if counts.get(name, 1) != 1
    ]
    present = {name: counts[name] for name in wanted[len(single) :] if name in counts}
    if len(set(present.values())) > 1:
        listing = ", ".join(f"{name} {count}" for name, count in sorted(present.items()))
        faults.append(f"partition counts differ: {listing}")
    return faults


def rights(book: Book | None) -> dict[str, tuple[str, ...]]:
    """What a worker must be allowed on each topic (without prefix), as Kafka calls it.

    To read or to write implies to see the topic (Describe).
    """
    both = (LEARNED, ERASED, CONTROL, *output_topics(book))
    return {
        **dict.fromkeys((CATALOG, *TOPICS), ("READ",)),
        **dict.fromkeys(both, ("READ", "WRITE")),
        EVIDENCE: ("WRITE",),
    }


def right_faults(
    settings: Settings, book: Book | None, allowed: Mapping[str, Collection[str]]
) -> list[str]:
    """What this user lacks, given what Kafka allows it on each topic (with prefix).

    A broker that does not tell, for which a topic has no operation at all, is passed over: the
    worker ends when it refuses something.
    """
    return [
        f"topic {settings.topic(name)}: this user may not {wanted.capitalize()}"
        for name, operations in rights(book).items()
        for wanted in operations
        if wanted not in (found := allowed.get(settings.topic(name)) or operations)
        and "ALL" not in found
    ]


@contextmanager
def admin(settings: Settings) -> Iterator[KafkaAdminClient]:
    """An admin client; what Kafka refuses becomes a `PreconditionError`."""
    check_kafka_tls(settings)
    try:
        client = KafkaAdminClient(
            **settings.kafka_options(),
            client_id="tsuide-admin",
            request_timeout_ms=_TIMEOUT_MS,
            bootstrap_timeout_ms=_TIMEOUT_MS,
        )
    except (KafkaError, OSError) as error:
        raise PreconditionError(
            f"Kafka at {settings.kafka} does not answer ({type(error).__name__})",
            "start it or set TSUIDE_KAFKA",
        ) from error
    try:
        yield client
    except KafkaError as error:
        raise PreconditionError(f"Kafka at {settings.kafka}: {error}") from error
    finally:
        client.close()


def _load(rules: Path | None) -> Book | None:
    if rules is None:
        return None
    from streams.rulefiles import load_book

    return load_book(rules)


def _partition_counts(client: KafkaAdminClient) -> dict[str, int]:
    return {topic["name"]: len(topic["partitions"]) for topic in client.describe_topics()}


def _create(client: KafkaAdminClient, name: str, plan: Plan, replication: int) -> bool:
    """Whether it was made; False when somebody else was quicker."""
    configs = dict(plan.configs)
    for attempt in (configs, {k: v for k, v in configs.items() if k not in _OPTIONAL}):
        try:
            answer = client.create_topics(
                {
                    name: {
                        "num_partitions": plan.partitions,
                        "replication_factor": replication,
                        "configs": attempt,
                    }
                },
                timeout_ms=_TIMEOUT_MS,
                raise_errors=False,
            )
            _raise_for(answer)
        except TopicAlreadyExistsError:
            return False
        except InvalidConfigurationError:
            if attempt is not configs:
                raise
        else:
            return True
    return True


def _raise_for(answer: Mapping[str, Any]) -> None:
    for topic in answer["topics"]:
        if topic["error_code"]:
            raise for_code(topic["error_code"])(topic.get("error_message") or topic["name"])


def _differences(
    client: KafkaAdminClient,
    settings: Settings,
    plans: Iterable[Plan],
    counts: Mapping[str, int],
) -> list[str]:
    """How topics that were there already differ from their plan, one text each."""
    found: list[str] = []
    by_name = {settings.topic(plan.name): plan for plan in plans}
    if not by_name:
        return found
    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in by_name]
    described = client.describe_configs(resources, config_filter="all").get("topic", {})
    for name, plan in by_name.items():
        if counts[name] != plan.partitions:
            found.append(f"{name}: {counts[name]} partitions, wanted {plan.partitions}")
        for key, wanted in plan.configs.items():
            value = described.get(name, {}).get(key, {}).get("value")
            if value is not None and value != wanted:
                found.append(f"{name}: {key} is {value}, wanted {wanted}")
    return found
