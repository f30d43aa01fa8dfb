"""The whole recorded year through `tsuide backtest`: its bytes are the known ones, and its time.

python -m benchmarks.year [--rules DIR] [--write]

The digests lie in `year.sha256` beside this file, one line a result and rule book. A refactoring
leaves them alone; what changes decisions on purpose writes them anew (`--write`) and says why.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.cluster import ROOT, make_year

DIGESTS = Path(__file__).with_name("year.sha256")
RULES = ROOT / "examples" / "retail-year" / "rules"
RESULTS = ("offers.jsonl", "decisions.jsonl", "dead-letters.jsonl")


def measure(rules: Path, files: list[Path]) -> tuple[dict[str, str], dict[str, object], float]:
    """Digests by result, the backtest's own figures, and the seconds of the whole command."""
    with tempfile.TemporaryDirectory(prefix="tsuide-year-") as name:
        out = Path(name)
        command = [sys.executable, "-P", "-m", "streams.cli", "backtest", "--rules", str(rules)]
        command += ["--out", str(out), "--json", "--events", *map(str, files)]
        started = time.perf_counter()
        answer = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
        seconds = time.perf_counter() - started
        found = {}
        for result in RESULTS:
            with (out / result).open("rb") as stream:
                found[result] = hashlib.file_digest(stream, "sha256").hexdigest()
    return found, json.loads(answer.stdout.splitlines()[-1]), seconds


def known_digests() -> dict[str, str]:
    """Result and rule book (``retail-year/offers.jsonl``) to the digest that is known."""
    if not DIGESTS.exists():
        return {}
    pairs = (line.split() for line in DIGESTS.read_text("utf-8").splitlines())
    return {name: digest for digest, name in pairs}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rules", type=Path, default=RULES)
    parser.add_argument("--write", action="store_true", help="take these digests as known")
    options = parser.parse_args()
    book = options.rules.resolve().parent.name
    found, figures, seconds = measure(options.rules.resolve(), make_year())
    print(f"{figures['events']:,} events in {seconds:.1f} s")
    known = known_digests()
    named = {f"{book}/{result}": digest for result, digest in found.items()}
    if options.write:
        lines = sorted((known | named).items())
        DIGESTS.write_text("".join(f"{digest}  {name}\n" for name, digest in lines), "utf-8")
    differing = [name for name, digest in named.items() if known.get(name) not in (None, digest)]
    for name in differing:
        print(f"{name} differs from what is known", file=sys.stderr)
    return 1 if differing and not options.write else 0


if __name__ == "__main__":
    sys.exit(main())
