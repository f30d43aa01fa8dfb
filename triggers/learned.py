"""What is learnt across customers: pairs bought or viewed together, and rates of plans and rules.

A partition adds up what its own customers do (:class:`Tally`) and tells the others its sums as
absolute values; everybody adds up the sums of all partitions (:class:`View`). So the merged counts
do not depend on the order in which partitions are heard, and telling twice changes nothing.

Counts are integers in units of 2^-20, aged in steps of a week: each step leaves 217/256, which is
about half after a month (29 days) and less than a unit after 84 weeks. All of it is integer
arithmetic, the same on every machine. A count has no customer in it; what an erased customer
added ages out.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec

BOUGHT = "bought"  # key: a sku, or "" for all baskets; counts: (baskets,)
VIEWED = "viewed"  # key: a sku, or "" for all sittings; counts: (sittings,)
PLAN = "plan"  # key: a plan's sku; counts: (selected, left)
RULE = "rule"  # key: a rule's id; counts: (offered, complained)
VARIANT = "variant"  # key: rule and variant (`variant_key`); counts: (offered, accepted)
KINDS = frozenset({BOUGHT, VIEWED, PLAN, RULE, VARIANT})

UNIT = 1 << 20
STEP_MS = 7 * 86_400_000
_KEPT_256THS = 217
_STEPS_MAX = 104
_FACTORS = tuple(_KEPT_256THS**steps for steps in range(_STEPS_MAX))
#: Partners of a sku: so many are kept, and so many are left when there are more.
PARTNERS_MAX = 64
PARTNERS_KEPT = 48
#: Skus of one order that are paired with each other; its further ones are not.
BASKET_MAX = 20
#: Rankings remembered until the next change.
_RANKED_MAX = 20_000
#: An entry is told to the others at most this often, in ms of the worker's clock.
TELL_MS = 60_000
#: How often it is looked for entries that may be told.
LOOK_MS = 1_000
_SCALE = 10**18


class Fact(NamedTuple):
    """Something to count: ``add`` to the counts of ``(kind, key)``, one to each of ``partners``."""

    kind: str
    key: str
    at: int
    add: tuple[int, ...]
    partners: tuple[str, ...] = ()


Id = tuple[str, str]  # kind and key


class Entry(msgspec.Struct, array_like=True, gc=False):
    """One partition's sums for one key, as of the week ``step``; ``told`` when it was told, ms."""

    step: int
    counts: list[int]
    partners: dict[str, int] = {}
    told: int = 0


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Entry).decode


def pack(entry: Entry) -> bytes:
    """An entry as the store keeps it and a :class:`View` takes it."""
    return _encode(entry)


def step_of(at_ms: int) -> int:
    """The week that an instant belongs to."""
    return at_ms // STEP_MS


def aged(value: int, steps: int) -> int:
    """What is left of a count after so many weeks, rounded down once."""
    if steps <= 0:
        return value
    return value * _FACTORS[steps] >> 8 * steps if steps < _STEPS_MAX else 0


def variant_key(rule: str, variant: str) -> str:
    """The key of a rule's variant (no rule id holds a ``#``)."""
    return f"{rule}#{variant}"


def id_text(entry: Id) -> str:
    """An entry's id as the store and the topic name it."""
    return f"{entry[0]}>{entry[1]}"


def add_fact(entry: Entry, fact: Fact) -> None:
    """Count ``fact`` in ``entry``, which moves on to the fact's week when that is later."""
    step = step_of(fact.at)
    if step > entry.step:
        _move(entry, step)
    unit = aged(UNIT, entry.step - step)  # a late fact has aged already
    for place, amount in enumerate(fact.add):
        entry.counts[place] += amount * unit
    partners = entry.partners
    for sku in fact.partners:
        partners[sku] = partners.get(sku, 0) + unit
    if len(partners) > PARTNERS_MAX:
        kept = sorted(partners.items(), key=lambda pair: (-pair[1], pair[0]))[:PARTNERS_KEPT]
        entry.partners = dict(sorted(kept))


def _move(entry: Entry, step: int) -> None:
    steps = step - entry.step
    entry.step = step
    entry.counts = [aged(count, steps) for count in entry.counts]
    left = ((sku, aged(count, steps)) for sku, count in entry.partners.items())
    entry.partners = {sku: count for sku, count in left if count}


class Tally:
    """One partition's own sums. The owner loads what :meth:`missing` names before adding."""

    def __init__(self) -> None:
        self.entries: dict[Id, Entry] = {}
        self._changed: dict[Id, None] = {}
        self._untold: dict[Id, None] = {}
        self._looked_ms = -TELL_MS

    def missing(self, facts: Iterable[Fact]) -> list[Id]:
        """Entries that ``facts`` change and that are not here yet."""
        wanted = dict.fromkeys((fact.kind, fact.key) for fact in facts)
        return [entry for entry in wanted if entry not in self.entries]

    def load(self, entry: Id, packed: bytes) -> None:
        """Take a stored entry."""
        self.entries[entry] = _decode(packed)

    def add(self, facts: Iterable[Fact]) -> None:
        """Count facts, in the order of the log."""
        for fact in facts:
            name = (fact.kind, fact.key)
            entry = self.entries.get(name)
            if entry is None:
                entry = self.entries[name] = Entry(step_of(fact.at), [0] * len(fact.add))
            add_fact(entry, fact)
            self._changed[name] = self._untold[name] = None

    def take_news(self, now_ms: int, everything: bool = False) -> list[tuple[Id, Entry]]:
        """Changed entries that may be told by now; they count as told."""
        if not (everything or self.may_tell(now_ms)):
            return []
        self._looked_ms = now_ms
        news = []
        for name in list(self._untold):
            entry = self.entries[name]
            if everything or self._due(name, now_ms):
                entry.told = now_ms
                self._changed[name] = None
                del self._untold[name]
                news.append((name, entry))
        return news

    def may_tell(self, now_ms: int) -> bool:
        """Whether it is time for :meth:`take_news` to look what may be told."""
        return bool(self._untold) and self._looks(now_ms)

    def _looks(self, now_ms: int) -> bool:
        # Thousands of entries may wait, and batches are many: looking through them has its price.
        return not 0 <= now_ms - self._looked_ms < LOOK_MS

    def _due(self, name: Id, now_ms: int) -> bool:
        told = self.entries[name].told
        return now_ms - told >= TELL_MS or told > now_ms  # a clock that was set back

    @property
    def untold(self) -> int:
        """Changed entries that wait to be told."""
        return len(self._untold)

    def take_changes(self) -> list[tuple[Id, bytes]]:
        """Changed entries as stored bytes."""
        changes = [(name, pack(self.entries[name])) for name in self._changed]
        self._changed.clear()
        return changes

    def share(self, view: "View", source: int, facts: list[Fact]) -> None:
        """Count facts and show their sums in ``view`` at once, for a process that is alone."""
        self.add(facts)
        for name in self._changed:
            view.put(name, source, self.entries[name])
        self._changed.clear()
        self._untold.clear()

    def make_room(self, entries_max: int) -> None:
        """Forget what came in longest ago; it is loaded again when it is needed."""
        surplus = len(self.entries) - entries_max
        for name in list(self.entries)[:surplus] if surplus > 0 else ():
            if name not in self._untold and name not in self._changed:
                del self.entries[name]


class Partner(NamedTuple):
    """A sku that goes together with another: lift in 10^-18, pairs counted in 2^-20."""

    sku: str
    lift: int
    pairs: int


class View:
    """The sums of all partitions. Asking costs nothing for what nobody told."""

    __slots__ = ("_counted", "_ranked", "_sources", "version")

    def __init__(self) -> None:
        self.version = 0
        self._sources: dict[Id, dict[int, bytes | Entry]] = {}
        self._counted: dict[tuple[str, str, int], tuple[int, ...]] = {}
        self._ranked: dict[tuple[str, str, int], list[Partner]] = {}

    def __len__(self) -> int:
        return len(self._sources)

    def put(self, entry: Id, source: int, value: bytes | Entry | None) -> None:
        """Take the sums of partition ``source`` for an entry; None takes them away.

        Raises:
            msgspec.DecodeError: the bytes are no entry; nothing changed.
        """
        if isinstance(value, bytes):
            _check(_decode(value), entry[0])
        self.version += 1
        self._counted.clear()
        self._ranked.clear()
        if value is not None:
            # Bytes stay bytes until somebody asks: most entries are never asked for.
            self._sources.setdefault(entry, {})[source] = value
        else:
            sources = self._sources.get(entry, {})
            sources.pop(source, None)
            if not sources:
                self._sources.pop(entry, None)

    def _entries(self, entry: Id) -> list[Entry]:
        sources = self._sources.get(entry)
        if sources is None:
            return []
        return [_decode(v) if isinstance(v, bytes) else v for v in sources.values()]

    def counts(self, kind: str, key: str, at: int) -> tuple[int, ...]:
        """The merged counts of an entry at an instant, in 2^-20; empty when nobody counted."""
        step = step_of(at)
        asked = (kind, key, step)
        found = self._counted.get(asked)
        if found is None:
            entries = self._entries((kind, key))
            rows = [[aged(c, step - e.step) for c in e.counts] for e in entries]
            found = tuple(map(sum, zip(*rows, strict=True)))
            _keep(self._counted, asked, found)
        return found

    def partners(self, kind: str, sku: str, at: int) -> list[Partner]:
        """What goes together with ``sku``, best lift first, equal ones by sku.

        Lift is pairs x all / (of this sku x of the other): how much more often the two come
        together than by chance.
        """
        step = step_of(at)
        asked = (kind, sku, step)
        found = self._ranked.get(asked)
        if found is None:
            found = self._rank(kind, sku, at)
            _keep(self._ranked, asked, found)
        return found

    def _rank(self, kind: str, sku: str, at: int) -> list[Partner]:
        step = step_of(at)
        pairs: dict[str, int] = {}
        for entry in self._entries((kind, sku)):
            for other, count in entry.partners.items():
                pairs[other] = pairs.get(other, 0) + aged(count, step - entry.step)
        own = _first(self.counts(kind, sku, at))
        total = _first(self.counts(kind, "", at))
        found = []
        for other, count in pairs.items():
            theirs = _first(self.counts(kind, other, at))
            if count and own and theirs:
                found.append(Partner(other, count * total * _SCALE // (own * theirs), count))
        return sorted(found, key=lambda partner: (-partner.lift, partner.sku))


def _keep(table: dict[Any, Any], asked: Any, found: Any) -> None:
    if len(table) >= _RANKED_MAX:
        table.clear()
    table[asked] = found


def _first(counts: tuple[int, ...]) -> int:
    return counts[0] if counts else 0


_WIDTHS = {BOUGHT: 1, VIEWED: 1, PLAN: 2, RULE: 2, VARIANT: 2}


def _check(entry: Entry, kind: str) -> None:
    numbers = (entry.step, entry.told, *entry.counts, *entry.partners.values())
    if (
        len(entry.counts) != _WIDTHS.get(kind)
        or min(numbers) < 0
        or len(entry.partners) > PARTNERS_MAX
    ):
        raise msgspec.DecodeError("counts that nobody can have counted")
