"""Asks an advisory service about every package of `locks/` and says what came of it.

pip-audit ends well when the service knew none of the packages, as if all had been found clean, and
with an error when nobody answered. Here both are one plain line and status 0, for neither says
anything of the packages; an advisory is status 1, and so is a lock that cannot be read. A package
that only another platform or Python installs is not asked about.

python deploy/audit.py [OPTIONS OF pip-audit]
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

LOCKS = Path(__file__).resolve().parent.parent / "locks"
SECONDS_MAX = 300
NAMED_MAX = 5
#: What pip-audit's last line or traceback says where the service did not answer as it should.
AWAY = ("ConnectionError", "Could not connect", "ServiceError", "HTTPError", "Timeout", "timed out")


def verdict(report: str, complaint: str) -> tuple[list[str], int]:
    """The lines to print and the exit status.

    Args:
        report: what pip-audit wrote as JSON, empty where it came to no end.
        complaint: what it wrote to its standard error.
    """
    try:
        packages: list[dict[str, Any]] = json.loads(report)["dependencies"]
    except (ValueError, KeyError, TypeError):
        said = complaint.strip().splitlines() or ["it said nothing"]
        away = [line for line in said if any(word in line for word in AWAY)]
        if away:
            why = away[-1][:200]
            return [f"nothing was audited: the advisory service does not answer ({why})"], 0
        return [f"pip-audit failed: {said[-1][:200]}"], 1
    unknown = [one for one in packages if "skip_reason" in one]
    known = len(packages) - len(unknown)
    found = [
        f"{one['name']} {one['version']}: {fault['id']}{_mended(fault.get('fix_versions'))}"
        for one in packages
        for fault in one.get("vulns", ())
    ]
    if not known:
        why = unknown[0]["skip_reason"] if unknown else "no package was named"
        return [f"nothing was audited: of {len(packages)} packages none was known ({why})"], 0
    left = ""
    if unknown:
        names = ", ".join(one["name"] for one in unknown[:NAMED_MAX])
        left = f"; not known there: {len(unknown)}, among them {names}"
    return [*found, f"{known} packages audited, {len(found)} advisories{left}"], 1 if found else 0


def _mended(versions: list[str] | None) -> str:
    return f", mended in {', '.join(versions)}" if versions else ", not mended yet"


def main(options: list[str]) -> int:
    """Audit; the exit status."""
    # The locks are whole: nothing is resolved, nothing installed.
    command = [sys.executable, "-m", "pip_audit", "--disable-pip", "--require-hashes"]
    command += ["--format", "json", "--progress-spinner", "off", *options]
    for lock in sorted(LOCKS.glob("*.txt")):
        command += ["--requirement", str(lock)]
    try:
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, timeout=SECONDS_MAX
        )
        lines, status = verdict(done.stdout, done.stderr)
    except subprocess.TimeoutExpired:
        lines, status = verdict("", f"timed out after {SECONDS_MAX} s")
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
