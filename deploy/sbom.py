"""Writes what the program is made of, as CycloneDX JSON: every package of `locks/run.txt`.

python deploy/sbom.py FOLDER  # writes FOLDER/tsuide-VERSION.cdx.json
"""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "locks" / "run.txt"


def write_sbom(folder: Path) -> Path:
    """Write the list into `folder`; its path. The same lock gives the same bytes.

    Raises `subprocess.CalledProcessError` when the lock cannot be read.
    """
    project = ROOT / "pyproject.toml"
    version = tomllib.loads(project.read_text())["project"]["version"]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"tsuide-{version}.cdx.json"
    # It warns that a lock does not say which package needs which; that is so, and no fault.
    command = [sys.executable, "-W", "ignore", "-m", "cyclonedx_py", "requirements", str(LOCK)]
    # Where a package was fetched from is the affair of whoever installs: it is named by its purl.
    command += ["--pyproject", str(project), "--index-url", "pkg:pypi", "--output-reproducible"]
    subprocess.run([*command, "--output-format", "JSON", "--output-file", str(path)], check=True)
    return path


if __name__ == "__main__":
    sys.stdout.write(f"{write_sbom(Path(sys.argv[1]))}\n")
