"""The house rules that a machine can watch over."""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PURE = sorted((ROOT / "triggers").glob("*.py"))
ALL = sorted([*(ROOT / "triggers").rglob("*.py"), *(ROOT / "streams").rglob("*.py")])

CALLS = {"hash", "open", "print", "eval", "exec", "input", "id", "compile", "__import__"}
MODULES = {
    "aiohttp", "aiokafka", "asyncio", "faust", "kafka", "logging", "mode", "os", "random", "redis",
    "secrets", "socket", "streams", "subprocess", "sys", "threading", "time", "uuid",
}  # fmt: skip
CLOCKS = {"now", "utcnow", "today"}

FILE_LINES_MAX = 430
FUNCTION_LINES_MAX = 60


def impurities(source: str) -> Iterator[str]:
    """What in a module of the engine is not pure, as ``line: what``."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.AsyncFunctionDef, ast.Await, ast.AsyncFor, ast.AsyncWith)):
            yield f"{node.lineno}: async"
        elif isinstance(node, ast.Import):
            for name in node.names:
                if name.name.split(".")[0] in MODULES:
                    yield f"{node.lineno}: import {name.name}"
        elif isinstance(node, ast.ImportFrom):
            if (node.module or "").split(".")[0] in MODULES:
                yield f"{node.lineno}: from {node.module}"
        elif isinstance(node, ast.Call):
            if isinstance(node.func, ast.Name) and node.func.id in CALLS:
                yield f"{node.lineno}: {node.func.id}()"
            if isinstance(node.func, ast.Attribute) and node.func.attr in CLOCKS:
                yield f"{node.lineno}: .{node.func.attr}()"


@pytest.mark.parametrize("path", PURE, ids=lambda path: path.name)
def test_the_engine_is_pure(path: Path) -> None:
    assert list(impurities(path.read_text())) == []


@pytest.mark.parametrize(
    "bad",
    [
        "import time",
        "from streams.clock import wall_ms",
        "x = hash('a')",
        "open('f')",
        "async def f(): ...",
        "from datetime import datetime\nx = datetime.now()",
        "import os.path",
        "print(1)",
    ],
)
def test_the_check_of_purity_bites(bad: str) -> None:
    assert list(impurities(bad))


def longest_function(tree: ast.AST) -> tuple[int, str]:
    spans = [
        ((node.end_lineno or 0) - node.lineno + 1, node.name)
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    ]
    return max(spans, default=(0, ""))


@pytest.mark.parametrize("path", ALL, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_files_and_functions_stay_readable(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= FILE_LINES_MAX
    lines, name = longest_function(ast.parse(text))
    assert lines <= FUNCTION_LINES_MAX, f"{name} has {lines} lines"


def test_nothing_names_where_it_was_made() -> None:
    words = ("/work/", "/tmp/w/", "pypi.org", "files.pythonhosted", "repo.maven", "registry.npmjs")
    tracked = [
        path
        for pattern in ("*.py", "*.md", "*.toml", "*.yml", "*.yaml", "locks/*.txt", "Makefile")
        for path in ROOT.rglob(pattern)
        if not {".venv", ".git", ".bench", "build", "dist"} & set(path.relative_to(ROOT).parts)
        and path != Path(__file__)
    ]
    assert len(tracked) > 50
    found = [
        f"{path.relative_to(ROOT)}: {word}"
        for path in tracked
        for word in words
        if word in path.read_text(errors="replace")
    ]
    assert found == []


def _compiled_modules() -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    hook = project["tool"]["hatch"]["build"]["targets"]["wheel"]["hooks"]["custom"]
    return [str(module) for module in hook["modules"]]


@pytest.mark.parametrize("module", _compiled_modules())
def test_what_is_compiled_has_no_class_whose_keywords_would_be_dropped(module: str) -> None:
    tree = ast.parse((ROOT / f"{module}.py").read_text("utf-8"))
    classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    assert [each.name for each in classes if each.keywords] == []
    bases = {ast.unparse(base) for each in classes for base in each.bases}
    assert not bases & {"Struct", "msgspec.Struct", "BaseModel"}
