"""Which topics the stored offsets belong to: one that was made anew has other records under them.

Kafka gives every topic an id of its own, which a topic of the same name made later does not have.
The ids of the customer topics are kept in the compacted topic ``control``. They are compared when
a worker starts and at every claim, before anything is applied. A fetch names its topic and not the
id, so a topic that is made anew between two claims, too quickly for the group to notice, is found
by looking from time to time.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeVar

import msgspec
import structlog

from streams.control import teller, told
from streams.errors import PreconditionError
from streams.settings import Settings
from streams.topics import CONTROL, admin
from triggers.events import TOPICS

log = structlog.get_logger(__name__)

KEY: Final = b"topics"
#: The record that tells from when on (ms) snapshots fit topics that were made anew.
ACCEPTED_KEY: Final = b"accepted"
LOOK_S: Final = 30.0
_to_json = msgspec.json.Encoder().encode
_from_json = msgspec.json.Decoder(dict[str, str]).decode
_accepted_from_json = msgspec.json.Decoder(dict[str, int]).decode

T = TypeVar("T")
Records = Iterable[tuple[bytes | None, bytes | None]]


class TopicMadeAnewError(PreconditionError):
    """A topic in is not the one that the stored offsets belong to."""


def topic_ids(settings: Settings) -> dict[str, str]:
    """Customer topic (without prefix) -> its id now; without those that the broker gives no id."""
    with admin(settings) as client:
        described: list[dict[str, Any]] = client.describe_topics()
    names = {settings.topic(topic): topic for topic in TOPICS}
    return {
        names[topic["name"]]: str(topic["topic_id"])
        for topic in described
        if topic["name"] in names and _is_id(topic.get("topic_id"))
    }


def _is_id(found: Any) -> bool:
    return found is not None and any(character not in "0-" for character in str(found))


def read_ids(records: Records) -> dict[str, str]:
    """Topic -> the id that its stored offsets belong to, from all records of ``control``."""
    return _last(records, KEY, _from_json)


def read_accepted(records: Records) -> dict[str, int]:
    """Topic -> when (ms) it was accepted as one with other records than before."""
    return _last(records, ACCEPTED_KEY, _accepted_from_json)


def _last(records: Records, wanted: bytes, decode: Callable[[bytes], dict[str, T]]) -> dict[str, T]:
    """What the last record under a key says; one that is none of ours takes nothing back."""
    found: dict[str, T] = {}
    for key, value in records:
        if key != wanted:
            continue
        try:
            found = decode(value) if value else {}
        except (ValueError, RecursionError):
            log.error("a record is none of ours", topic=CONTROL, key=wanted.decode())
    return found


def ids_record(ids: Mapping[str, str]) -> bytes:
    """The value of the record under `KEY`."""
    return _to_json(dict(ids))


def accepted_record(accepted: Mapping[str, int]) -> bytes:
    """The value of the record under `ACCEPTED_KEY`."""
    return _to_json(dict(accepted))


def made_anew(found: Mapping[str, str], known: Mapping[str, str]) -> list[str]:
    """The topics, sorted, that have another id than the known one."""
    return sorted(topic for topic, made in found.items() if known.get(topic, made) != made)


def check_ids(found: Mapping[str, str], records: Records) -> bytes | None:
    """Compare the ids of now with those that ``control`` tells.

    Returns the value of the record to write under `KEY`, None where nothing is new. Raises
    `TopicMadeAnewError` where a topic was deleted and made again since. A broker that gives no
    ids is believed.
    """
    known = read_ids(records)
    other = made_anew(found, known)
    if other:
        raise TopicMadeAnewError(
            f"topics {', '.join(other)} were made anew: the stored offsets are not theirs",
            "see the runbook on a topic that was made anew: tsuide topics accept",
        )
    return None if known.keys() >= found.keys() else ids_record({**known, **found})


def check_topic_ids(settings: Settings) -> None:
    """As :func:`check_ids`, at a start: asks Kafka, and remembers what is new."""
    value = check_ids(topic_ids(settings), told(settings))
    if value is not None:
        with teller(settings) as tell:
            tell(KEY, value)


Ask = Callable[[], dict[str, str]]


async def ask_aside(ask: Ask) -> dict[str, str]:
    """Call :func:`topic_ids`, which blocks, in a thread of its own.

    Not in one of asyncio's: the process would wait for it at its end, and Kafka may be silent.
    """
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[dict[str, str]] = loop.create_future()

    def settle(found: dict[str, str] | None, error: BaseException | None) -> None:
        if answer.done():  # nobody waits any more
            return
        if error is not None:
            answer.set_exception(error)
        elif found is not None:
            answer.set_result(found)

    def work() -> None:
        found, failed = None, None
        try:
            found = ask()
        except BaseException as error:  # noqa: BLE001 - it is raised where it is waited for
            failed = error
        try:
            loop.call_soon_threadsafe(settle, found, failed)
        except RuntimeError:
            log.info("the topics in were looked at too late")  # the loop has ended

    threading.Thread(target=work, name="topic-ids", daemon=True).start()
    return await answer


async def watch_topic_ids(ask: Ask) -> None:
    """Raise `TopicMadeAnewError` when a topic in is not the one of the first look any more.

    ``ask`` is :func:`topic_ids`. A look that fails says nothing: the next one, or the next claim,
    will tell.
    """
    first: dict[str, str] = {}
    while True:
        found: dict[str, str] = {}
        try:
            found = await ask_aside(ask)
        except Exception as error:  # noqa: BLE001 - whatever ails Kafka's client is no finding
            log.warning("the topics in were not compared", error=type(error).__name__)
        check_ids(found, [(KEY, ids_record(first))])
        first = {**found, **first}
        await asyncio.sleep(LOOK_S)
