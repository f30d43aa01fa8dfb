"""The demo's live picture: what flows, what was offered, and what was held back and why."""

from rich.columns import Columns
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from streams.scrape import Figures

_ROWS_MAX = 12


def _counts(title: str, counts: dict[str, int]) -> Panel:
    table = Table(box=None, show_header=False, padding=(0, 1))
    ranked = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    for name, count in ranked[:_ROWS_MAX]:
        table.add_row(name, Text(f"{count:,}", justify="right"))
    return Panel(table, title=title, title_align="left")


def draw(figures: Figures, seconds: float, ended: bool = False) -> RenderableType:
    """One frame: figures since the start, ``seconds`` of real time ago."""
    rate = figures.applied / seconds if seconds else 0.0
    head = Text.assemble(
        ("Tsuide ", "bold"),
        f"{'ended after' if ended else 'runs for'} {seconds:.0f} s   ",
        (f"{figures.applied:,}", "bold"),
        f" events ({rate:,.0f}/s)   lag {figures.lag:,}   log time {figures.log_time}   ",
        f"dead letters {figures.dead_letters}",
    )
    timers = Text(
        f"timers: {figures.timers_fired:,} fired, {figures.timers_pending:,} customers waiting; "
        f"late p50 {figures.lateness_p50_ms:.0f} ms, p99 {figures.lateness_p99_ms:.0f} ms"
    )
    panels = Columns(
        [
            _counts("offers by rule", figures.offers_by_rule),
            _counts("offers by channel", figures.offers_by_channel),
            _counts("decisions", figures.decisions),
            _counts("not offered, why", figures.reasons),
        ]
    )
    return Group(head, timers, panels)
