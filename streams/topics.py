"""The topics in and out: made with equal partition counts, and checked before anything runs."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from kafka import KafkaAdminClient
from kafka.errors import KafkaError

from streams.errors import PreconditionError
from streams.rulefiles import load_book
from streams.settings import Settings
from triggers.book import Book
from triggers.events import CATALOG, TOPICS

DECISIONS = "decisions"
DEAD_LETTERS = "dead-letters"
#: Channels whose topics are made where no rule book says which there are.
CHANNELS = ("email", "push", "onsite", "sms", "sales", "call")
_CENTURY_MS = str(100 * 366 * 86_400_000)


class Problem(NamedTuple):
    """A topic that is not as it must be, and what to do."""

    topic: str
    text: str
    remedy: str


def output_topics(book: Book | None) -> list[str]:
    """The topics out, without prefix: one for each channel of the book, and the two others."""
    channels = CHANNELS if book is None else {rule.channel for rule in book.rules.values()}
    return [*sorted(f"offers.{channel}" for channel in channels), DECISIONS, DEAD_LETTERS]


def _admin(settings: Settings) -> KafkaAdminClient:
    try:
        return KafkaAdminClient(**settings.kafka_options())
    except KafkaError as error:
        raise PreconditionError(
            f"Kafka does not answer at {settings.kafka} ({type(error).__name__})",
            "start it, or set TSUIDE_KAFKA",
        ) from error


def _found(admin: KafkaAdminClient, names: Iterable[str]) -> dict[str, int]:
    """Partition counts of those ``names`` that exist."""
    present = set(admin.list_topics())
    wanted = [name for name in names if name in present]
    described = admin.describe_topics(wanted) if wanted else []
    return {topic["name"]: len(topic["partitions"]) for topic in described}


def create_topics(
    settings: Settings,
    rules: Path | None = None,
    partitions: int | None = None,
    history: bool = False,
    replication: int = -1,
) -> list[str]:
    """Make all topics that are missing; the names of those made.

    With ``history`` records keep their producers' timestamps and stay for ever, for recorded logs;
    else the broker's clock rules the topics in. Existing topics are left as they are; raises
    :class:`PreconditionError` when one of them has another partition count.
    """
    count = partitions or settings.partitions
    outputs = output_topics(None if rules is None else load_book(rules))
    wanted = {settings.topic(name): count for name in (*TOPICS, *outputs)}
    wanted[settings.topic(CATALOG)] = 1
    admin = _admin(settings)
    try:
        known = _found(admin, wanted)
        for name, found in known.items():
            if found != wanted[name]:
                raise PreconditionError(
                    f"topic {name} has {found} partitions, {wanted[name]} were asked for",
                    "partition counts cannot change; take another prefix or the same count",
                )
        missing = [name for name in wanted if name not in known]
        inputs = {settings.topic(name) for name in TOPICS}
        if missing:
            plans: dict[str, Any] = {
                name: {
                    "num_partitions": wanted[name],
                    "replication_factor": replication,
                    "configs": _configs(name == settings.topic(CATALOG), name in inputs, history),
                }
                for name in missing
            }
            _make(admin, plans)
        return missing
    finally:
        admin.close()


def _configs(catalog: bool, is_input: bool, history: bool) -> dict[str, str]:
    configs = {"cleanup.policy": "compact" if catalog else "delete"}
    if history:
        configs |= {
            "retention.ms": "-1",
            "message.timestamp.type": "CreateTime",
            "message.timestamp.before.max.ms": _CENTURY_MS,
        }
    elif is_input:
        configs["message.timestamp.type"] = "LogAppendTime"
    return configs


def _make(admin: KafkaAdminClient, plans: dict[str, Any]) -> None:
    try:
        admin.create_topics(plans)
    except KafkaError as error:
        raise PreconditionError(
            f"the topics could not be made ({type(error).__name__})", "see the broker's log"
        ) from error


def topic_problems(settings: Settings, book: Book | None) -> tuple[int, list[Problem]]:
    """The partition count of the customers' topics, and everything that is wrong with topics."""
    remedy = "tsuide topics create"
    admin = _admin(settings)
    try:
        names = [*TOPICS, CATALOG, *output_topics(book)]
        found = _found(admin, [settings.topic(name) for name in names])
    finally:
        admin.close()
    problems = [
        Problem(settings.topic(name), "is missing", remedy)
        for name in names
        if settings.topic(name) not in found
    ]
    counts = [found[settings.topic(name)] for name in TOPICS if settings.topic(name) in found]
    count = counts[0] if counts else 0
    for name in names:
        have = found.get(settings.topic(name))
        want = 1 if name == CATALOG else count
        if have is not None and have != want:
            text = f"has {have} partitions instead of {want}"
            problems.append(Problem(settings.topic(name), text, "make it anew with equal counts"))
    return count, problems


def check_topics(settings: Settings, book: Book | None) -> int:
    """The partition count; raises :class:`PreconditionError` naming every topic that is wrong."""
    count, problems = topic_problems(settings, book)
    if problems:
        text = "; ".join(f"topic {problem.topic} {problem.text}" for problem in problems)
        raise PreconditionError(text, problems[0].remedy)
    return count
