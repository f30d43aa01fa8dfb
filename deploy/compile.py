"""Compiles the modules that every event passes through to machine code, with mypyc.

A build hook of hatchling, off unless ``HATCH_BUILD_HOOK_ENABLE_CUSTOM=1`` asks for it: the wheel
then fits one platform and one Python. The sources go along, and what ``modules`` in pyproject.toml
does not name runs as it is: what mypyc does not take (a class statement with keywords, as msgspec
structs have) and what runs only when a rule book is loaded.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:  # run below as a program of its own
    BuildHookInterface = object

PACKAGES = ("streams", "triggers")


class CompileHook(BuildHookInterface):
    """Adds compiled modules to the wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile in a folder of its own: the checkout is left as it is."""
        if self.target_name != "wheel" or version == "editable":
            return
        root = Path(self.root)
        # Kept until this process ends: the wheel is written after this.
        self._folder = tempfile.TemporaryDirectory(prefix="tsuide-compile-")
        folder = Path(self._folder.name)
        for package in PACKAGES:
            shutil.copytree(root / package, folder / package)
        command = [sys.executable, "-P", __file__, *self.config["modules"]]
        subprocess.run(command, check=True, cwd=folder)
        for built in sorted([*folder.glob("*.so"), *folder.glob("*/*.so")]):
            build_data["force_include"][str(built)] = str(built.relative_to(folder))
        build_data["pure_python"] = False
        build_data["infer_tag"] = True


def main(modules: list[str]) -> None:
    """Compile ``modules`` (``triggers/engine``) of the current folder, in place."""
    from mypyc.build import mypycify
    from setuptools import setup

    sources = [f"{module}.py" for module in modules]
    extensions = mypycify(["--ignore-missing-imports", *sources], opt_level="2", debug_level="0")
    setup(
        name="tsuide",
        packages=[],
        ext_modules=extensions,
        script_args=["-q", "build_ext", "--inplace", "--build-temp", "build/objects"],
    )


if __name__ == "__main__":
    main(sys.argv[1:])
