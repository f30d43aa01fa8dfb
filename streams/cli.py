"""The command line. Each command imports what it needs when it runs, so that help is quick."""

import gc
import json
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from streams.collector import THRESHOLDS
from streams.deadletterscli import dead_letters_app
from streams.personalcli import carry_erased, erase, export, forget_erasure_key
from streams.snapshotcli import forget_store, restore, snapshot, topics_accept

app = typer.Typer(
    name="tsuide",
    help="Offers at the right moment, from a shop's event stream.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
topics_app = typer.Typer(help="The Kafka topics.", no_args_is_help=True)
app.add_typer(topics_app, name="topics")
app.add_typer(dead_letters_app, name="dead-letters")
app.command()(erase)
app.command()(export)
app.command("carry-erased")(carry_erased)
app.command("forget-erasure-key")(forget_erasure_key)
app.command()(snapshot)
app.command()(restore)
app.command("forget-store")(forget_store)
topics_app.command("accept")(topics_accept)

Json = Annotated[bool, typer.Option("--json", help="The last line is one JSON object.")]
Kafka = Annotated[str | None, typer.Option(help="HOST:PORT of Kafka (TSUIDE_KAFKA).")]
Redis = Annotated[str | None, typer.Option(help="URL of Redis or Valkey (TSUIDE_REDIS).")]
Prefix = Annotated[str | None, typer.Option(help="Stands before every topic's name.")]
Rules = Annotated[Path | None, typer.Option(help="Folder of the rule book (TSUIDE_RULES).")]
_OF_RUN = ("events", "decisions", "dead_letters", "seconds")
RECORDED = Path("examples/retail-year")


def main() -> None:
    """Run the command line; errors go to standard error, one a line."""
    # What importing makes stays: to look through it again and again takes a tenth of a start.
    gc.set_threshold(*THRESHOLDS)
    try:
        app()
    except Exception as error:  # noqa: BLE001 - what is not ours is raised again
        sys.exit(_report(error))


def _report(error: Exception) -> int:
    """Print an error of ours and answer the exit status; anything else is raised again."""
    from streams.errors import SettingsError, StreamsError, UsageError

    if isinstance(error, SettingsError):
        for line in error.lines:
            print(line, file=sys.stderr)
        return 2
    if isinstance(error, StreamsError):
        print(error, file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    raise error


@app.command()
def worker(rules: Rules = None, kafka: Kafka = None, redis: Redis = None) -> None:
    """Run one worker; several of them share the partitions."""
    from streams.settings import load_settings
    from streams.worker import run_worker

    raise typer.Exit(run_worker(load_settings(rules=rules, kafka=kafka, redis=redis)))


@app.command()
def demo(
    seconds: Annotated[float | None, typer.Option(min=1, help="End after so long.")] = None,
    speed: Annotated[float, typer.Option(min=1, help="Recorded seconds a second.")] = 300_000,
    kafka: Kafka = None,
    redis: Redis = None,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Open no browser.")] = False,
    as_json: Json = False,
    folder: Annotated[Path, typer.Option(help="A recorded example: data/ and rules/.")] = RECORDED,
) -> None:
    """Run everything on this machine: broker, store, worker, and a shop replaying a year."""
    from streams.demo import DemoOptions, run_demo

    options = DemoOptions(
        history=folder / "data",
        rules=folder / "rules",
        seconds=seconds,
        speed=speed,
        as_json=as_json,
        kafka=kafka,
        redis=redis,
    )
    raise typer.Exit(run_demo(options))


@app.command()
def check(
    directory: Annotated[Path, typer.Argument(help="Folder of the rule book.")],
    catalog: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="Catalogue events, JSONL: check prices."),
    ] = None,
    graph: Annotated[
        Path | None,
        typer.Option(dir_okay=False, help="With --catalog: write its relations here, JSONL."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Check a rule book: every fault with file, line and column."""
    from streams.check import run_check

    if graph is not None and catalog is None:
        raise typer.BadParameter("--graph writes the relations of --catalog FILE: give both")
    raise typer.Exit(run_check(directory, as_json, catalog, graph))


@app.command()
def init(directory: Annotated[Path, typer.Argument(help="An empty or new folder.")]) -> None:
    """Begin a rule book: rules, scenarios, sample events, schemas for the editor."""
    from streams.starting import start_book

    for path in start_book(directory):
        print(path)
    print(f"next: tsuide check {directory}; tsuide test {directory}")


@app.command()
def schema(
    what: Annotated[Literal["book", "scenarios", "events"], typer.Argument()] = "book",
) -> None:
    """Print the JSON Schema of the book's files, of scenario files, or of the events."""
    from streams.starting import SCHEMAS, schema_text

    print(schema_text(SCHEMAS[what]()), end="")


@app.command("test")
def scenarios(
    directory: Annotated[Path, typer.Argument(help="A rule book, or a folder of several.")],
    only: Annotated[str, typer.Option("-k", "--only", help="Part of the ids to run.")] = "",
    covers: Annotated[str, typer.Option(help="Only what covers this row.")] = "",
    as_json: Json = False,
) -> None:
    """Run the scenarios and examples of every rule book below a folder."""
    from streams.scenariotest import run_tests

    raise typer.Exit(run_tests(directory, as_json, only, covers))


@app.command()
def backtest(
    rules: Annotated[Path, typer.Option(help="Folder of the rule book.")],
    events: Annotated[list[Path], typer.Option(help="JSON lines, .gz too; more may follow.")],
    out: Annotated[Path, typer.Option(help="Folder for the results.")],
    more: Annotated[list[Path] | None, typer.Argument(help="Further event files.")] = None,
    until: Annotated[str | None, typer.Option(help="RFC 3339; timers fire up to it.")] = None,
    compare: Annotated[
        Path | None, typer.Option(help="Folder of the book before: each rule's offers beside it.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Replay recorded events through the engine: what would have been decided."""
    from streams.backtestview import show_backtest
    from streams.errors import UsageError
    from streams.rulefiles import load_book

    files = [*events, *(more or ())]
    for file in files:
        if not file.is_file():
            raise UsageError(f"{file}: no such file")
    before = None if compare is None else load_book(compare)
    figures = show_backtest(load_book(rules), files, out, until, before, as_json)
    _print(figures if as_json else {key: figures[key] for key in _OF_RUN}, as_json)


@app.command()
def explain(
    customer: Annotated[str, typer.Argument(help="The customer's id.")],
    rules: Rules = None,
    events: Annotated[
        list[Path] | None, typer.Option(help="JSON lines instead of Redis; more may follow.")
    ] = None,
    more: Annotated[list[Path] | None, typer.Argument(help="Further event files.")] = None,
    until: Annotated[str | None, typer.Option(help="RFC 3339: events up to then.")] = None,
    kafka: Kafka = None,
    redis: Redis = None,
    as_json: Json = False,
) -> None:
    """What is known of one customer, and why each rule would fire now or not."""
    from streams.errors import UsageError
    from streams.explain import from_events, from_store, run_explain
    from streams.rulefiles import load_book
    from streams.settings import load_settings

    settings = load_settings(rules=rules, kafka=kafka, redis=redis)
    if settings.rules is None:
        raise UsageError("--rules DIR, or TSUIDE_RULES, names the rule book")
    files = [*(events or ()), *(more or ())]
    for file in files:
        if not file.is_file():
            raise UsageError(f"{file}: no such file")
    if until is not None and not files:
        raise UsageError("--until belongs to --events: the store knows only how things stand")
    book = load_book(settings.rules)
    if files:
        subject = from_events(book, customer, files, until)
    else:
        subject = from_store(settings, book, customer)
    run_explain(subject, book, as_json)


@app.command()
def report(
    events: Annotated[list[Path] | None, typer.Option(help="JSON lines; more may follow.")] = None,
    decisions: Annotated[Path | None, typer.Option(help="decisions.jsonl of a backtest.")] = None,
    offers: Annotated[Path | None, typer.Option(help="offers.jsonl of a backtest.")] = None,
    more: Annotated[list[Path] | None, typer.Argument(help="Further event files.")] = None,
    kafka: Kafka = None,
    prefix: Prefix = None,
    rules: Rules = None,
    days: Annotated[int, typer.Option(min=1, max=365, help="An order counts for so long.")] = 7,
    by: Annotated[str | None, typer.Option(help="An attribute: groups of customers.")] = None,
    measures: Annotated[bool, typer.Option("--measures", help="Say what is measured.")] = False,
    as_json: Json = False,
) -> None:
    """What became of offers, what they changed, and the named measures."""
    from streams.errors import UsageError
    from streams.report import Source, print_measures, print_report, run_report

    if measures:
        print_measures()
        return
    book = _book(rules)
    custom = None if book is None else book.custom
    source: Source
    if events and decisions and offers and kafka is None:
        from streams.reportentries import Files

        files = [*events, *(more or ())]
        for file in (*files, decisions, offers):
            if not file.is_file():
                raise UsageError(f"{file}: no such file")
        source = Files(files, [offers], [decisions], custom)
    elif events or decisions or offers or more:
        raise UsageError("report: --events, --decisions and --offers together, or --kafka alone")
    else:
        from streams.reporttopics import Topics
        from streams.settings import load_settings

        source = Topics(load_settings(kafka=kafka, prefix=prefix), custom)
    print_report(run_report(source, days, by, book), as_json)


@app.command()
def shop(
    events: Annotated[list[Path], typer.Argument(help="JSON lines of recorded events.")],
    kafka: Kafka = None,
    prefix: Prefix = None,
    partitions: Annotated[int | None, typer.Option(help="Of the customers' topics.")] = None,
    speed: Annotated[float | None, typer.Option(help="Recorded seconds a second.")] = None,
    rate: Annotated[float | None, typer.Option(help="Events a second instead.")] = None,
    now: Annotated[bool, typer.Option("--now", help="Events happen as they are sent.")] = False,
    rules: Rules = None,
    as_json: Json = False,
) -> None:
    """Replay recorded events into Kafka; custom event types are those of the rule book."""
    from streams.history import topics_of
    from streams.recorded import read_events
    from streams.rulefiles import load_book
    from streams.settings import load_settings
    from streams.shop import Shop

    settings = load_settings(kafka=kafka, prefix=prefix, partitions=partitions, rules=rules)
    seller = Shop(settings.kafka, settings.prefix, settings.partitions)
    custom = topics_of(load_book(settings.rules).custom) if settings.rules else {}
    sent = seller.run(read_events(events, custom), speed, rate=rate, now=now)
    _print(sent._asdict(), as_json)


@topics_app.command("create")
def topics_create(
    rules: Rules = None,
    partitions: Annotated[int | None, typer.Option(min=1, max=1024)] = None,
    replication: Annotated[int, typer.Option(help="-1: the broker's default.")] = 1,
    history: Annotated[bool, typer.Option("--history", help="For recorded timestamps.")] = False,
    kafka: Kafka = None,
    prefix: Prefix = None,
    as_json: Json = False,
) -> None:
    """Make all topics in and out, with equal partition counts."""
    from streams.settings import load_settings
    from streams.topics import create_topics

    settings = load_settings(kafka=kafka, prefix=prefix, rules=rules, partitions=partitions)
    report = create_topics(
        settings,
        rules=settings.rules,
        partitions=settings.partitions,
        history=history,
        replication=replication,
    )
    for difference in report.differences:
        print(difference, file=sys.stderr)
    _print(report.as_dict(), as_json)
    raise typer.Exit(1 if report.differences else 0)


@app.command()
def doctor(
    rules: Rules = None, kafka: Kafka = None, redis: Redis = None, as_json: Json = False
) -> None:
    """Look at every precondition, one line each with its remedy."""
    from streams.doctor import run_doctor
    from streams.settings import load_settings

    raise typer.Exit(run_doctor(load_settings(rules=rules, kafka=kafka, redis=redis), as_json))


def _book(rules: Path | None) -> Any:
    """The rule book of a folder, or None without one."""
    if rules is None:
        return None
    from streams.rulefiles import load_book

    return load_book(rules)


def _print(figures: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(figures))
        return
    for name, value in figures.items():
        shown = (
            ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else value
        )
        print(f"{name}: {shown}")


if __name__ == "__main__":
    main()
