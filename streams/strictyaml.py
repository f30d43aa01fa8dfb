"""Strict YAML: plain values, and where each of them stands.

Anchors, aliases, tags, merge keys and duplicate keys are refused; plain scalars are true, false,
null, integers, decimals or text, as YAML 1.2's core schema has it, so that ``on`` and ``21:00``
are what they look like.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any

import yaml

from triggers.shapes import Fault as ContentFault
from triggers.shapes import Path

FILE_BYTES_MAX = 256 * 1024
DEPTH_MAX = 20
_INT = re.compile(r"[-+]?[0-9]+")
_DECIMAL = re.compile(r"[-+]?[0-9]+\.[0-9]+")
_SINGLE = re.compile(r"''|.", re.DOTALL)
_DOUBLE = re.compile(r"\\x[0-9a-fA-F]{2}|\\u[0-9a-fA-F]{4}|\\U[0-9a-fA-F]{8}|\\.|.", re.DOTALL)
FAULTS_MAX = 100
#: How the fault of a file begins that may be read another time.
UNREADABLE = "cannot be read"
_WORDS = {"true": True, "false": False, "null": None, "~": None, "": None}


@dataclass(frozen=True, slots=True, order=True)
class Fault:
    """A fault at a place; lines and columns count from 1."""

    file: str
    line: int
    column: int
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}: {self.message}"


@dataclass(slots=True)
class Places:
    """Where each path of the merged content stands."""

    at: dict[Path, tuple[str, int, int]] = field(default_factory=dict)
    keys: dict[Path, tuple[str, int, int]] = field(default_factory=dict)
    texts: dict[Path, str] = field(default_factory=dict)  # scalars of one line, as written

    def find(self, fault: ContentFault) -> Fault:
        """The place of a fault: its own path, else the nearest one above it."""
        path = fault.path
        while path not in self.at and path:
            path = path[:-1]
        places = self.keys if fault.at_key and path in self.keys else self.at
        file, line, column = places.get(path, ("", 1, 1))
        if path == fault.path and fault.column > 1 and path in self.texts:
            column += _written(self.texts[path], fault.column - 1)
        return Fault(file, line, column, fault.message)


def _written(raw: str, count: int) -> int:
    """How many characters the first ``count`` of a scalar take as written, quote included."""
    if raw[:1] not in ("'", '"'):
        return count
    step = _DOUBLE if raw[0] == '"' else _SINGLE
    at = 1
    for _ in range(count):
        match = step.match(raw, at)
        at = match.end() if match else at + 1
    return at


class _Reader:
    """Reads one file into plain values, noting places and faults."""

    def __init__(self, file: str, places: Places, faults: list[Fault]) -> None:
        self._file = file
        self._places = places
        self._faults = faults

    def read(self, text: str) -> Any:
        """The document of a file, or None."""
        self._text = text
        try:
            depth = 0
            for event in yaml.parse(text, Loader=yaml.SafeLoader):
                self._refuse(event)
                depth += isinstance(event, yaml.CollectionStartEvent)
                depth -= isinstance(event, yaml.CollectionEndEvent)
                if depth > DEPTH_MAX:  # composing recurses: look before
                    self._add(event.start_mark, f"is nested deeper than {DEPTH_MAX}")
                if depth > DEPTH_MAX or len(self._faults) >= FAULTS_MAX:
                    return None
            if any(fault.file == self._file for fault in self._faults):
                return None
            node = yaml.compose(text, Loader=yaml.SafeLoader)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            message = error.problem or "is not YAML"
            if message.startswith("expected ',' or "):  # a comma or a quote ended the text early
                message += ": inside {} and [] an expression stands in single quotes"
            self._add(mark, message)
            return None
        except yaml.YAMLError as error:
            self._add(None, f"is not YAML: {str(error).splitlines()[0]}")
            return None
        return None if node is None else self._value(node, ())

    def _add(self, mark: Any, message: str) -> None:
        line, column = (mark.line + 1, mark.column + 1) if mark is not None else (1, 1)
        self._faults.append(Fault(self._file, line, column, message))

    def _refuse(self, event: Any) -> None:
        if isinstance(event, yaml.AliasEvent):
            self._add(event.start_mark, "aliases are not allowed")
        elif isinstance(event, yaml.NodeEvent):
            if event.anchor is not None:
                self._add(event.start_mark, "anchors are not allowed")
            if getattr(event, "tag", None) is not None:
                self._add(event.start_mark, "tags are not allowed")

    def _value(self, node: Any, path: Path) -> Any:
        mark = node.start_mark
        self._places.at[path] = (self._file, mark.line + 1, mark.column + 1)
        if isinstance(node, yaml.ScalarNode):
            if mark.line == node.end_mark.line:
                self._places.texts[path] = self._text[mark.index : node.end_mark.index]
            return node.value if node.style is not None else _plain(node.value)
        if isinstance(node, yaml.SequenceNode):
            return [self._value(item, (*path, place)) for place, item in enumerate(node.value)]
        return self._mapping(node, path)

    def _mapping(self, node: Any, path: Path) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in node.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else None
            if name is None or name == "<<":
                self._add(key.start_mark, "is not a key: a plain text is needed")
            elif name in found:
                self._add(key.start_mark, f"the key {name} stands here twice")
            else:
                mark = key.start_mark
                self._places.keys[*path, name] = (self._file, mark.line + 1, mark.column + 1)
                found[name] = self._value(value, (*path, name))
                # A fault of a whole entry (unknown, wrong shape) is shown at its key.
                if not isinstance(value, yaml.ScalarNode):
                    self._places.at[*path, name] = self._places.keys[*path, name]
        return found


def _plain(text: str) -> Any:
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text):
        return int(text) if len(text) <= 18 else text
    return float(text) if _DECIMAL.fullmatch(text) else text


def read_document(file: FilePath, places: Places, faults: list[Fault]) -> Any:
    """The mapping in a file, or None; its places and faults are added to those given."""
    try:
        if not file.is_file():  # reading a pipe would never end
            faults.append(Fault(str(file), 1, 1, "is no file"))
            return None
        with file.open("rb") as stream:  # a file may grow while it is read
            raw = stream.read(FILE_BYTES_MAX + 1)
        if len(raw) > FILE_BYTES_MAX:
            faults.append(Fault(str(file), 1, 1, f"more than {FILE_BYTES_MAX // 1024} KiB"))
            return None
        text = raw.decode().replace("\r\n", "\n").replace("\r", "\n")
    except (OSError, UnicodeDecodeError) as error:
        faults.append(Fault(str(file), 1, 1, f"{UNREADABLE}: {type(error).__name__}"))
        return None
    document = _Reader(str(file), places, faults).read(text)
    if document is not None and not isinstance(document, dict):
        faults.append(Fault(str(file), 1, 1, "is not a mapping"))
        return None
    return document
