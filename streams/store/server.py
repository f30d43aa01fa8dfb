"""Whether a server may hold our state: judged from its INFO, without asking for CONFIG."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

Version = tuple[int, int, int]

REDIS_MIN: Version = (7, 2, 0)
VALKEY_MIN: Version = (8, 0, 0)

# The releases that close the known holes, by release line; a newer line holds them too. A line
# that is not named has no release without them.
REDIS_FLOORS: dict[tuple[int, int], Version] = {
    (7, 4): (7, 4, 9),
    (8, 2): (8, 2, 6),
    (8, 4): (8, 4, 3),
    (8, 6): (8, 6, 3),
}
VALKEY_FLOORS: dict[tuple[int, int], Version] = {
    (8, 0): (8, 0, 10),
    (8, 1): (8, 1, 9),
    (9, 0): (9, 0, 5),
    (9, 1): (9, 1, 1),
}


class Finding(NamedTuple):
    """Something about the server. A fatal one forbids to start, another is worth a warning."""

    fatal: bool
    code: str
    text: str


def parse_info(text: str) -> dict[str, str]:
    """INFO's ``name:value`` lines as a dict."""
    pairs = (line.partition(":") for line in text.splitlines() if not line.startswith("#"))
    return {name: value.strip() for name, sep, value in pairs if sep}


def check_info(info: Mapping[str, str]) -> list[Finding]:
    """What is wrong with a server, fatal findings first."""
    findings = [*_version(info), *_role(info), *_memory(info), *_persistence(info)]
    return sorted(findings, key=lambda finding: not finding.fatal)


def _parse(text: str) -> Version | None:
    numbers = text.split("-", maxsplit=1)[0].split(".")
    if not 2 <= len(numbers) <= 4 or not all(number.isdecimal() for number in numbers):
        return None
    major, minor, patch = [int(number) for number in (*numbers, "0")][:3]
    return major, minor, patch


def _version(info: Mapping[str, str]) -> list[Finding]:
    # Valkey gives redis_version 7.2.4 for the sake of old clients.
    valkey = "valkey_version" in info
    name = "Valkey" if valkey else "Redis"
    text = info.get("valkey_version" if valkey else "redis_version", "")
    version = _parse(text)
    lowest = VALKEY_MIN if valkey else REDIS_MIN
    floors = VALKEY_FLOORS if valkey else REDIS_FLOORS
    if version is None:
        return [Finding(True, "version", "the server does not tell a version that we can read")]
    if version < lowest:
        needed = ".".join(map(str, lowest[:2]))
        return [Finding(True, "version", f"{name} {text} lacks commands: {needed} or later")]
    floor = floors.get(version[:2])
    if version[:2] > max(floors) or (floor is not None and version >= floor):
        return []
    safe = ", ".join(".".join(map(str, known)) for known in sorted(floors.values()))
    return [
        Finding(False, "security", f"{name} {text} has known security holes; closed in {safe}"),
    ]


def _role(info: Mapping[str, str]) -> list[Finding]:
    if info.get("role") == "slave":
        return [Finding(True, "replica", "the server is a replica: give the primary's address")]
    if info.get("redis_mode") == "cluster":
        text = "the server is a node of a cluster; only partitions in its own slots are served"
        return [Finding(False, "cluster", text)]
    return []


def _memory(info: Mapping[str, str]) -> list[Finding]:
    policy = info.get("maxmemory_policy", "")
    if policy != "noeviction":
        text = f"maxmemory-policy is {policy or 'unknown'}: state would vanish; set noeviction"
        return [Finding(True, "eviction", text)]
    if info.get("maxmemory") == "0":
        text = "maxmemory is 0: the server grows until the machine kills it"
        return [Finding(False, "maxmemory", text)]
    return []


def _persistence(info: Mapping[str, str]) -> list[Finding]:
    if info.get("aof_enabled") != "1":
        text = "the append-only file is off: a restart of the server loses the state"
        return [Finding(False, "aof", text)]
    if info.get("aof_last_write_status", "ok") != "ok":
        return [Finding(True, "aof_write", "the server cannot write its append-only file")]
    return []
