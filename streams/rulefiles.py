"""The rule book's folder: strict YAML, every fault with file, line and column."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any

from streams.errors import StreamsError
from streams.strictyaml import UNREADABLE, Fault, Places, read_document
from triggers.book import Book
from triggers.compiler import compile_content
from triggers.shapes import Fault as ContentFault

FILES_MAX = 200
#: Of all files together: a megabyte of YAML takes several seconds to read.
FOLDER_BYTES_MAX = 2 * 1024 * 1024
#: Beside the rules, but no part of the book (``streams.scenarios``).
SCENARIOS = "scenarios.yaml"
#: Sections of names, and what one of them is called; each name stands in one file.
_NAMED = {"segments": "segment", "templates": "template", "events": "event type"}


class RuleBookError(StreamsError):
    """A rule book with faults."""

    def __init__(self, faults: list[Fault]) -> None:
        super().__init__("\n".join(str(fault) for fault in faults))
        self.faults = faults


def _shift(places: Places, own: Places, rules_before: int) -> None:
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
    try:
        every = [*folder.glob("*.yaml"), *folder.glob("*.yml")]
    except OSError:  # the folder went away meanwhile
        return []
    return sorted(
        file for file in every if not file.name.startswith(".") and file.name != SCENARIOS
    )


def _size(file: FilePath) -> int:
    try:
        return file.stat().st_size
    except OSError:  # reading it will say so
        return 0


@dataclass(slots=True)
class Source:
    """A folder as read: the merged content, and where each part of it stands."""

    content: dict[str, Any]
    places: Places
    files: list[FilePath]
    unread: list[Fault]  # files, or parts of them, that are no strict YAML
    doubled: list[Fault]

    def at(self, fault: ContentFault) -> Fault:
        """A fault of the content at its place."""
        found = self.places.find(fault)
        fallback = str(self.files[0])
        return Fault(found.file or fallback, found.line, found.column, found.message)

    def book(self) -> Book | list[Fault]:
        """The compiled book, or all faults in the order of their places."""
        # A file that cannot be read leaves holes that would only look like further faults.
        if self.unread:
            return sorted({*self.unread, *self.doubled})
        compiled = compile_content(self.content)
        if isinstance(compiled, Book):
            return sorted(set(self.doubled)) or compiled
        return sorted({*map(self.at, compiled), *self.doubled})


def read_folder(folder: FilePath) -> Source:
    """Read all files of a folder; faults of reading are in what it answers."""
    files = _files(folder) if folder.is_dir() else []
    source = Source({}, Places(), files, [], [])
    if not files:
        source.unread.append(Fault(str(folder), 1, 1, "no *.yaml files here"))
        return source
    if len(files) > FILES_MAX:
        source.unread.append(Fault(str(folder), 1, 1, f"more than {FILES_MAX} files"))
        return source
    if sum(map(_size, files)) > FOLDER_BYTES_MAX:
        message = f"more than {FOLDER_BYTES_MAX // 1024} KiB in all"
        source.unread.append(Fault(str(folder), 1, 1, message))
        return source
    for file in files:
        own = Places()
        document = read_document(file, own, source.unread)
        rules = source.content.get("rules")
        _shift(source.places, own, len(rules) if isinstance(rules, list) else 0)
        for name, value in _sections(document):
            _merge(source.content, name, value, str(file), own, source.doubled)
    return source


def load_folder(folder: FilePath) -> Book | list[Fault]:
    """The book of a folder, or all its faults in the order of their places."""
    return read_folder(folder).book()


def _sections(document: Any) -> Iterator[tuple[str, Any]]:
    yield from (document or {}).items()


def _merge(
    content: dict[str, Any],
    name: str,
    value: Any,
    file: str,
    places: Places,
    faults: list[Fault],
) -> None:
    """Add one file's section: rules and named parts add up, everything else stands once."""
    if name not in content:
        content[name] = value
        return
    known = content[name]
    if name == "rules" and isinstance(known, list) and isinstance(value, list):
        content[name] = [*known, *value]
        return
    if name in _NAMED and isinstance(known, dict) and isinstance(value, dict):
        twice = sorted(known.keys() & value.keys())
        content[name] = {**known, **value}
        for each in twice:
            _, line, column = places.at[name, each]
            faults.append(
                Fault(file, line, column, f"the {_NAMED[name]} {each} stands in another file")
            )
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
        self._waiting: Book | None = None
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
        found = load_folder(self._folder)
        if self._look() != seen:
            return None  # it changed while it was read: half of it may well look like a book
        unread = not isinstance(found, Book) and any(UNREADABLE in f.message for f in found)
        self._seen = None if unread else seen  # what cannot be read now may be readable soon
        if isinstance(found, Book):
            self.faults = []
            return found
        self.faults = found
        return None

    def settled(self) -> Book | None:
        """A new book that two looks in a row found the same, so that nobody is writing it.

        Half a file, or one of two files that belong together, may be a book without a fault; its
        rules would take the timers of all others with them.
        """
        waiting, self._waiting = self._waiting, None
        found = self.poll()
        if found is not None:
            self._waiting = found
            return None
        return waiting if not self.faults and self._look() == self._seen else None

    def _look(self) -> object:
        looked = []
        for file in _files(self._folder):
            try:
                stat = file.stat()
            except OSError:
                continue  # gone between listing and looking: the next look sees it
            looked.append(
                (str(file), stat.st_mtime_ns, stat.st_ctime_ns, stat.st_size, stat.st_ino)
            )
        return looked
