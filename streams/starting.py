"""``tsuide init``: a folder to begin with: rules, scenarios, events, and schemas for the editor."""

import json
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from streams.errors import UsageError
from streams.schemas import book_schema, events_schema, scenario_schema

FILES = ("book.yaml", "rules.yaml", "scenarios.yaml", "events.jsonl")
SCHEMAS = {"book": book_schema, "scenarios": scenario_schema, "events": events_schema}


def start_book(directory: Path) -> list[Path]:
    """Write the first files into ``directory``, which is empty or not there yet; their paths."""
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise UsageError(f"{directory} is not empty: name another folder")
    written = []
    starter = files("streams") / "starter"
    (directory / ".schema").mkdir(parents=True)
    for name in FILES:
        path = directory / name
        path.write_bytes((starter / name).read_bytes())
        written.append(path)
    for name, schema in SCHEMAS.items():
        path = directory / ".schema" / f"{name}.json"
        path.write_text(schema_text(schema()), encoding="utf-8")
        written.append(path)
    return written


def schema_text(schema: Mapping[str, Any]) -> str:
    """A schema as it is printed."""
    return json.dumps(schema, indent=1, ensure_ascii=False) + "\n"
