"""What the program is made of is listed, and what is known against it is asked for."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from deploy.audit import verdict
from deploy.sbom import LOCK, ROOT, write_sbom

UNREACHED = """Traceback (most recent call last):
  File "adapters.py", line 729, in send
    raise ConnectionError(e, request=request)
requests.exceptions.ConnectionError: HTTPSConnectionPool(host='advisories.example', port=443)
"""


def report(*packages: dict[str, Any]) -> str:
    return json.dumps({"dependencies": packages, "fixes": []})


def clean(name: str) -> dict[str, Any]:
    return {"name": name, "version": "1.0", "vulns": []}


def unknown(name: str) -> dict[str, Any]:
    return {"name": name, "skip_reason": f"not found: {name} (1.0)"}


def bad(name: str, *mended: str) -> dict[str, Any]:
    fault = {"id": "PYSEC-1", "fix_versions": list(mended), "aliases": [], "description": "long"}
    return {"name": name, "version": "1.0", "vulns": [fault]}


def test_the_sbom_lists_every_package_of_the_run_lock_with_its_version(tmp_path: Path) -> None:
    path = write_sbom(tmp_path)
    told = json.loads(path.read_text())
    locked = dict(re.findall(r"^([a-z0-9.-]+)==([^ ;\\]+)", LOCK.read_text(), re.MULTILINE))
    assert len(locked) > 40
    assert {one["name"]: one["version"] for one in told["components"]} == locked
    assert all(one["externalReferences"][0]["hashes"] for one in told["components"])
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert told["bomFormat"] == "CycloneDX"
    assert told["metadata"]["component"]["name"] == "tsuide"
    assert told["metadata"]["component"]["version"] == version
    assert path.name == f"tsuide-{version}.cdx.json"


def test_an_advisory_fails_the_audit_also_when_other_packages_are_not_known() -> None:
    lines, status = verdict(report(clean("a"), bad("b", "1.1"), bad("c"), unknown("d")), "")
    assert status == 1
    assert lines == [
        "b 1.0: PYSEC-1, mended in 1.1",
        "c 1.0: PYSEC-1, not mended yet",
        "3 packages audited, 2 advisories; not known there: 1, among them d",
    ]


def test_packages_without_an_advisory_pass_the_audit() -> None:
    assert verdict(report(clean("a"), clean("b")), "") == (["2 packages audited, 0 advisories"], 0)


@pytest.mark.parametrize(
    ("told", "complaint", "why"),
    [
        (report(unknown("a"), unknown("b")), "No known vulnerabilities found", "not found: a"),
        (report(), "", "no package was named"),
        ("", UNREACHED, "advisories.example"),
        ("", "ERROR: Could not connect to the vulnerability feed\nERROR: Tip", "Could not connect"),
        ("", "timed out after 300 s", "300 s"),
    ],
)
def test_an_audit_that_learnt_nothing_says_so_in_one_line(
    told: str, complaint: str, why: str
) -> None:
    lines, status = verdict(told, complaint)
    assert status == 0
    assert len(lines) == 1
    assert lines[0].startswith("nothing was audited: ")
    assert why in lines[0]


@pytest.mark.parametrize("complaint", ["", "ERROR: locks/run.txt: requirement is not pinned"])
def test_an_audit_that_could_not_read_the_locks_fails(complaint: str) -> None:
    lines, status = verdict("", complaint)
    assert status == 1
    assert len(lines) == 1


def test_an_audit_that_does_not_run_does_not_pass() -> None:
    program = [sys.executable, str(ROOT / "deploy" / "audit.py"), "--no-such-option"]
    done = subprocess.run(program, check=False, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stdout.startswith("pip-audit failed: ")
    assert len(done.stdout.splitlines()) == 1
