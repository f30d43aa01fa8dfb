"""Everything on this machine: embedded broker and store, a worker, and a shop that replays a
recorded year in the log's own time, with a live picture in the terminal.

All that is started here is stopped here, also on Ctrl-C and on errors.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from rich.console import Console
from rich.live import Live

from streams.embedded import EmbeddedKafka, EmbeddedStore, free_port
from streams.errors import StreamsError, UsageError
from streams.history import topics_of
from streams.picture import draw
from streams.rulefiles import load_book
from streams.scrape import Figures, read_figures
from streams.settings import Settings, load_settings
from streams.shop import Shop, read_events
from streams.topics import create_topics

_START_S_MAX = 60.0
_STOP_S_MAX = 20.0
_REFRESH_S = 0.5
PARTITIONS = 4


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """How ``tsuide demo`` was called. ``speed`` is log seconds a real second; None: as fast as
    it goes. ``kafka`` and ``redis`` name real servers instead of the embedded ones."""

    history: Path
    rules: Path
    seconds: float | None = None
    speed: float | None = None
    as_json: bool = False
    kafka: str | None = None
    redis: str | None = None


class DemoError(StreamsError):
    """A part of the demo did not start or ended on its own."""


def history_files(folder: Path) -> list[Path]:
    """The recorded files of a folder, in name order."""
    found = sorted([*folder.glob("*.jsonl"), *folder.glob("*.jsonl.gz")])
    if not found:
        raise UsageError(f"{folder}: no *.jsonl or *.jsonl.gz files")
    return found


def run_demo(options: DemoOptions) -> int:
    """Run the demo until its time is over, the history ends, or Ctrl-C; the exit status."""
    console = Console(stderr=options.as_json)
    with ExitStack() as stack:
        try:
            figures, seconds = _run(options, stack, console)
        except KeyboardInterrupt:
            console.print("stopped")
            return 0
        except DemoError as error:
            print(error, file=sys.stderr)
            return 1
    console.print(draw(figures, seconds, ended=True))
    if options.as_json:
        print(json.dumps(summary(figures, seconds)))
    return 0


def summary(figures: Figures, seconds: float) -> dict[str, Any]:
    """The object that ``--json`` prints."""
    return {
        "applied": figures.applied,
        "offers": dict(sorted(figures.offers_by_rule.items())),
        "decisions": dict(sorted(figures.decisions.items())),
        "timers": {
            "fired": figures.timers_fired,
            "lateness_ms": {"p50": figures.lateness_p50_ms, "p99": figures.lateness_p99_ms},
        },
        "dead_letters": figures.dead_letters,
        "seconds": round(seconds, 3),
    }


def _run(options: DemoOptions, stack: ExitStack, console: Console) -> tuple[Figures, float]:
    data = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tsuide-demo-")))
    kafka, redis = options.kafka, options.redis
    if redis is None:
        redis = stack.enter_context(EmbeddedStore(data / "store")).url
    if kafka is None:
        kafka = stack.enter_context(EmbeddedKafka(data / "broker")).address
    settings = load_settings(
        kafka=kafka,
        redis=redis,
        rules=options.rules,
        partitions=PARTITIONS,
        clock="log",
        http=f"127.0.0.1:{free_port()}",
        data_dir=data,
        log_level="warning",
    )
    create_topics(settings, rules=options.rules, partitions=PARTITIONS, history=True)
    worker = _Worker(settings, data)
    stack.callback(worker.stop)
    worker.wait_until_ready()
    shop = _Shop(options, kafka)
    stack.callback(shop.stop)
    shop.start()
    started = time.monotonic()
    figures = Figures()
    with Live(console=console, refresh_per_second=4, transient=True) as live:
        while True:
            time.sleep(_REFRESH_S)
            worker.check()
            shop.check()
            figures = worker.figures()
            seconds = time.monotonic() - started
            live.update(draw(figures, seconds))
            over = options.seconds is not None and seconds >= options.seconds
            if over or (shop.done and figures.applied >= shop.sent and not figures.waiting):
                break
    shop.stop()
    return worker.figures(), time.monotonic() - started


class _Worker:
    """A worker process and its figures."""

    def __init__(self, settings: Settings, data: Path) -> None:
        self._url = f"http://{settings.http}"
        self._log = data / "worker.log"
        with self._log.open("wb") as out:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "streams.cli", "worker"],
                env=worker_environment(settings),
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches us alone; we stop it in order
            )

    def check(self) -> None:
        if self._process.poll() is not None:
            tail = self._log.read_text(errors="replace")[-2000:]
            raise DemoError(f"the worker ended with status {self._process.returncode}:\n{tail}")

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + _START_S_MAX
        while time.monotonic() < deadline:
            self.check()
            try:
                with urllib.request.urlopen(f"{self._url}/readyz", timeout=2):  # noqa: S310 - http
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(0.1)
        raise DemoError(f"the worker was not ready after {_START_S_MAX:.0f} s")

    def figures(self) -> Figures:
        try:
            with urllib.request.urlopen(f"{self._url}/metrics", timeout=5) as answer:  # noqa: S310
                return read_figures(answer.read().decode())
        except (urllib.error.URLError, OSError) as error:
            self.check()
            raise DemoError(f"the worker's figures cannot be read: {error}") from error

    def stop(self) -> None:
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(_STOP_S_MAX)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


def worker_environment(settings: Settings) -> dict[str, str]:
    """This process's environment with every setting that differs from its default."""
    given = {
        f"TSUIDE_{name.upper()}": (
            value.get_secret_value() if isinstance(value, SecretStr) else str(value)
        )
        for name, value in settings.model_dump(exclude_unset=True).items()
        if value is not None
    }
    kept = {k: v for k, v in os.environ.items() if not k.startswith("TSUIDE_")}
    return {**kept, **given}


@dataclass(slots=True)
class _Shop:
    """The shop in a thread of its own."""

    options: DemoOptions
    kafka: str
    done: bool = False
    sent: int = 0
    _error: BaseException | None = None
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="shop", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        shop = Shop(self.kafka, partitions=PARTITIONS)
        try:
            custom = topics_of(load_book(self.options.rules).custom)
            events = read_events(history_files(self.options.history), custom)
            shop.run(events, self.options.speed, self._stop, self._progress)
        except BaseException as error:  # noqa: BLE001 - handed to the main thread by check()
            self._error = error
        finally:
            shop.close()
            self.done = True

    def _progress(self, customer_events: int) -> None:
        self.sent = customer_events

    def check(self) -> None:
        if self._error is not None:
            raise DemoError(f"the shop ended: {self._error}") from self._error

    def stop(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join(_STOP_S_MAX)


__all__ = ["DemoError", "DemoOptions", "history_files", "run_demo", "summary"]
