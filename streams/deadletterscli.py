"""``tsuide dead-letters``: list, show and replay what was refused."""

from __future__ import annotations

import json
import sys
from collections import Counter, deque
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from streams.letters import Letter, Places, Wanted
    from streams.settings import Settings

dead_letters_app = typer.Typer(help="Refused records: look, mend, replay.", no_args_is_help=True)

LIMIT_MAX = 100_000

Json = Annotated[bool, typer.Option("--json", help="The last line is one JSON object.")]
Kafka = Annotated[str | None, typer.Option(help="HOST:PORT of Kafka (TSUIDE_KAFKA).")]
Prefix = Annotated[str | None, typer.Option(help="Stands before every topic's name.")]
Rules = Annotated[Path | None, typer.Option(help="Folder of the rule book (TSUIDE_RULES).")]
Reason = Annotated[str | None, typer.Option(help="A reason, such as unknown_type.")]
Topic = Annotated[str | None, typer.Option(help="Refused from this topic, without prefix.")]
Number = Annotated[int | None, typer.Option("--partition", min=0, help="And this partition.")]
Since = Annotated[str | None, typer.Option(help="RFC 3339: refused at or after.")]
Until = Annotated[str | None, typer.Option(help="RFC 3339: refused at or before.")]
Limit = Annotated[int, typer.Option(min=1, max=LIMIT_MAX, help="At most so many.")]


@dead_letters_app.command("list")
def list_letters(
    reason: Reason = None,
    topic: Topic = None,
    number: Number = None,
    since: Since = None,
    until: Until = None,
    limit: Limit = 50,
    kafka: Kafka = None,
    prefix: Prefix = None,
    as_json: Json = False,
) -> None:
    """The last refused records, and totals by reason; no part of what they hold."""
    from streams.letters import printable
    from streams.resend import read_letters, read_replays
    from streams.scanning import reader

    settings = _settings(kafka, prefix)
    wanted = _wanted([], reason, topic, number, since, until)
    replays = read_replays(settings)
    totals: Counter[str] = Counter()
    shown: deque[Letter] = deque(maxlen=limit)
    with reader(settings, "tsuide-dead-letters") as consumer:
        for letter in read_letters(consumer, settings):
            if wanted.takes(letter):
                totals[letter.reason] += letter.count
                shown.append(letter)
    rows = [_row(letter, replays) for letter in shown]
    if as_json:
        print(json.dumps({"total": totals.total(), "reasons": totals, "letters": rows}))
        return
    for row in rows:
        print("  ".join(printable(str(row[name])) for name in _COLUMNS if row[name] != ""))
    print(f"refused: {totals.total()}" + (f", shown: {len(rows)}" if rows else ""))
    for name, count in totals.most_common():
        print(f"{printable(name)}: {count}")


_COLUMNS = ("place", "at", "reason", "detail", "note")


def _row(letter: Letter, replays: dict[str, int]) -> dict[str, Any]:
    from streams.clock import instant_text
    from streams.resend import replayed_at

    notes = []
    again_ms = replays.get(letter.place)
    again = None if again_ms is None else replayed_at(again_ms)
    if letter.is_summary:
        notes.append(f"stands for {letter.count} records")
    if letter.cut:
        notes.append("cut")
    if again is not None:
        notes.append(f"replayed at {again}")
    return {
        "place": letter.place,
        "at": instant_text(letter.at_ms),
        "reason": letter.reason,
        "detail": letter.detail,
        "bytes": len(letter.value),
        "cut": letter.cut,
        "count": letter.count,
        "replayed_at": again,
        "note": ", ".join(notes),
    }


@dead_letters_app.command("show")
def show(
    place: Annotated[str, typer.Argument(help="TOPIC/PARTITION/OFFSET of the refused record.")],
    kafka: Kafka = None,
    prefix: Prefix = None,
    as_json: Json = False,
) -> None:
    """One refused record with all that is known; what could move a cursor is escaped."""
    from streams.errors import PreconditionError
    from streams.letters import Wanted, parse_places
    from streams.resend import read_letters, read_replays
    from streams.scanning import reader

    settings = _settings(kafka, prefix)
    places = parse_places(place)
    wanted = Wanted(places=(places,))
    with reader(settings, "tsuide-dead-letters") as consumer:
        found = [one for one in read_letters(consumer, settings) if wanted.takes(one)]
    if not found:
        raise PreconditionError(f"{place}: no such dead letter", "tsuide dead-letters list")
    replays = read_replays(settings)
    for letter in found:
        figures = _full(letter, replays)
        if as_json:
            print(json.dumps(figures))
            continue
        for name, value in figures.items():
            if value not in ("", None):
                print(f"{name}: {value}")


def _full(letter: Letter, replays: dict[str, int]) -> dict[str, Any]:
    from streams.letters import printable, printable_bytes

    row = _row(letter, replays)
    row["detail"] = printable(letter.detail)
    row["reason"] = printable(letter.reason)
    row |= {"sha256": printable(letter.sha256), "key": printable_bytes(letter.key)}
    return row | {"value": printable_bytes(letter.value)}


@dead_letters_app.command("replay")
def replay(
    places: Annotated[
        list[str] | None, typer.Argument(help="TOPIC/PARTITION/OFFSET or .../FIRST-LAST; several.")
    ] = None,
    reason: Reason = None,
    topic: Topic = None,
    number: Number = None,
    since: Since = None,
    until: Until = None,
    limit: Limit = 1000,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Send nothing, say what.")] = False,
    again: Annotated[bool, typer.Option("--again", help="Also what was sent before.")] = False,
    rules: Rules = None,
    kafka: Kafka = None,
    prefix: Prefix = None,
    as_json: Json = False,
) -> None:
    """Send refused records once more, in order; what would be refused again is not sent."""
    from streams.errors import UsageError
    from streams.letters import printable
    from streams.personal import erased
    from streams.resend import Resender
    from streams.rulefiles import load_book

    settings = _settings(kafka, prefix, rules)
    wanted = _wanted(places or [], reason, topic, number, since, until)
    if wanted.is_all:
        raise UsageError("dead-letters replay: say which: places, --reason, --topic or a time")
    custom = dict(load_book(settings.rules).custom) if settings.rules else {}
    counts: Counter[str] = Counter()
    missing = set(wanted.places)
    with erased(settings) as gone:
        resender = Resender(settings, custom, again=again, dry=dry_run, allowed=gone.may_replay)
        for outcome in resender.run(wanted, limit):
            counts[outcome.what] += 1
            missing -= {place for place in missing if _covers(place, outcome.place)}
            line = " ".join(filter(None, (outcome.place, outcome.what, outcome.to)))
            line = printable(f"{line} ({outcome.why})" if outcome.why else line)
            if outcome.what == "refused":
                print(line, file=sys.stderr)
            elif outcome.what != "left":
                print(line)
    for place in sorted(missing, key=str):
        text = f"{place.topic}/{place.number}/{place.first}"
        print(f"{text}: no such dead letter", file=sys.stderr)
    figures = {name.replace(" ", "_"): counts[name] for name in _OUTCOMES}
    if as_json:
        print(json.dumps(figures))
    else:
        print(", ".join(f"{name} {counts[name]}" for name in _OUTCOMES if counts[name]) or "none")
    raise typer.Exit(1 if counts["refused"] or missing else 0)


_OUTCOMES = ("sent", "would send", "skipped", "refused", "left")


def _covers(place: Places, text: str) -> bool:
    topic, number, offset = text.rsplit("/", 2)
    same = place.topic == topic and place.number == int(number)
    return same and place.first <= int(offset) <= place.last


def _settings(kafka: str | None, prefix: str | None, rules: Path | None = None) -> Settings:
    from streams.settings import load_settings

    return load_settings(kafka=kafka, prefix=prefix, rules=rules)


def _wanted(
    places: list[str],
    reason: str | None,
    topic: str | None,
    number: int | None,
    since: str | None,
    until: str | None,
) -> Wanted:
    from streams.letters import Wanted, parse_places

    named = tuple(parse_places(place) for place in places)
    return Wanted(named, reason, topic, number, _instant(since), _instant(until))


def _instant(text: str | None) -> int | None:
    from streams.errors import UsageError
    from triggers.rfc3339 import rfc3339_ms

    if text is None:
        return None
    at_ms = rfc3339_ms(text)
    if at_ms is None:
        raise UsageError(f"{text}: not an RFC 3339 time with an offset")
    return at_ms
