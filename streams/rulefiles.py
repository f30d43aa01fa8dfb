"""The rule book's folder: strict YAML, every fault with file, line and column.

Anchors, aliases, tags, merge keys and duplicate keys are refused; plain scalars are true, false,
null, integers, decimals or text, as YAML 1.2's core schema has it, so that ``on`` and ``21:00``
are what they look like.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any

import yaml

from streams.errors import StreamsError
from triggers.book import Book
from triggers.compiler import compile_content
from triggers.shapes import Fault as ContentFault
from triggers.shapes import Path

FILE_BYTES_MAX = 256 * 1024
FILES_MAX = 200
DEPTH_MAX = 20
_INT = re.compile(r"[-+]?[0-9]+")
_DECIMAL = re.compile(r"[-+]?[0-9]+\.[0-9]+")
_SINGLE = re.compile(r"''|.", re.DOTALL)
_DOUBLE = re.compile(r"\\x[0-9a-fA-F]{2}|\\u[0-9a-fA-F]{4}|\\U[0-9a-fA-F]{8}|\\.|.", re.DOTALL)
FAULTS_MAX = 100
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


class RuleBookError(StreamsError):
    """A rule book with faults."""

    def __init__(self, faults: list[Fault]) -> None:
        super().__init__("\n".join(str(fault) for fault in faults))
        self.faults = faults


@dataclass(slots=True)
class _Places:
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

    def __init__(self, file: str, places: _Places, faults: list[Fault]) -> None:
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
            self._add(mark, error.problem or "is not YAML")
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


def _shift(places: _Places, own: _Places, rules_before: int) -> None:
    """Move the places of one file's rules behind those of the files before it."""
    for path, place in own.at.items():
        moved = path
        if len(path) > 1 and path[0] == "rules" and isinstance(path[1], int):
            moved = ("rules", path[1] + rules_before, *path[2:])
        if moved in places.at:
            continue
        places.at[moved] = place
        if path in own.keys:
            places.keys[moved] = own.keys[path]
        if path in own.texts:
            places.texts[moved] = own.texts[path]


def _files(folder: FilePath) -> list[FilePath]:
    """The book's files; what begins with a dot is an editor's."""
    every = [*folder.glob("*.yaml"), *folder.glob("*.yml")]
    return sorted(file for file in every if not file.name.startswith("."))


def load_folder(folder: FilePath) -> Book | list[Fault]:
    """The book of a folder, or all its faults in the order of their places."""
    files = _files(folder) if folder.is_dir() else []
    if not files:
        return [Fault(str(folder), 1, 1, "no *.yaml files here")]
    if len(files) > FILES_MAX:
        return [Fault(str(folder), 1, 1, f"more than {FILES_MAX} files")]
    faults: list[Fault] = []  # of reading
    doubled: list[Fault] = []
    places = _Places()
    content: dict[str, Any] = {}
    for file in files:
        own = _Places()
        document = _document(file, own, faults)
        rules = content.get("rules")
        before = len(rules) if isinstance(rules, list) else 0
        _shift(places, own, before)
        for name, value in _sections(document):
            _merge(content, name, value, str(file), own, doubled)
    # A file that cannot be read leaves holes that would only look like further faults.
    if not faults:
        compiled = compile_content(content)
        if isinstance(compiled, Book):
            if not doubled:
                return compiled
            compiled = []
        fallback = str(files[0])
        found = [places.find(fault) for fault in compiled]
        faults = [Fault(f.file or fallback, f.line, f.column, f.message) for f in found]
    return sorted({*faults, *doubled})


def _document(file: FilePath, places: _Places, faults: list[Fault]) -> Any:
    try:
        if not file.is_file():  # reading a pipe would never end
            faults.append(Fault(str(file), 1, 1, "is no file"))
            return None
        if file.stat().st_size > FILE_BYTES_MAX:
            faults.append(Fault(str(file), 1, 1, f"more than {FILE_BYTES_MAX // 1024} KiB"))
            return None
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        faults.append(Fault(str(file), 1, 1, f"cannot be read: {type(error).__name__}"))
        return None
    document = _Reader(str(file), places, faults).read(text)
    if document is not None and not isinstance(document, dict):
        faults.append(Fault(str(file), 1, 1, "is not a mapping with book:, segments: or rules:"))
        return None
    return document


def _sections(document: Any) -> Iterator[tuple[str, Any]]:
    yield from (document or {}).items()


def _merge(
    content: dict[str, Any],
    name: str,
    value: Any,
    file: str,
    places: _Places,
    faults: list[Fault],
) -> None:
    """Add one file's section: rules and segments add up, everything else stands once."""
    if name not in content:
        content[name] = value
        return
    known = content[name]
    if name == "rules" and isinstance(known, list) and isinstance(value, list):
        content[name] = [*known, *value]
        return
    if name == "segments" and isinstance(known, dict) and isinstance(value, dict):
        twice = sorted(known.keys() & value.keys())
        content[name] = {**known, **value}
        for each in twice:
            _, line, column = places.at[name, each]
            faults.append(Fault(file, line, column, f"the segment {each} stands in another file"))
        return
    _, line, column = places.at[(name,)]
    faults.append(Fault(file, line, column, f"{name}: stands in another file already"))


def load_book(folder: FilePath) -> Book:
    """The book of a folder; raises :class:`RuleBookError` with all faults."""
    found = load_folder(folder)
    if isinstance(found, Book):
        return found
    raise RuleBookError(found)


class RuleFolder:
    """A folder that is looked at again and again; a book with faults changes nothing."""

    def __init__(self, folder: FilePath) -> None:
        self._folder = folder
        self._seen: object = None
        self.faults: list[Fault] = []

    def load(self) -> Book:
        """The book at the start; raises :class:`RuleBookError`."""
        self._seen = self._look()
        return load_book(self._folder)

    def poll(self) -> Book | None:
        """A new book when the files changed and are without faults; ``faults`` tells the rest."""
        seen = self._look()
        if seen == self._seen:
            return None
        self._seen = seen
        found = load_folder(self._folder)
        if isinstance(found, Book):
            self.faults = []
            return found
        self.faults = found
        return None

    def _look(self) -> object:
        looked = []
        for file in _files(self._folder):
            try:
                stat = file.stat()
            except OSError:
                continue  # gone between listing and looking: the next look sees it
            looked.append((str(file), stat.st_mtime_ns, stat.st_size, stat.st_ino))
        return looked
