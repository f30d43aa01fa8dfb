"""Every setting of the program: `TSUIDE_*` in the environment, or an option of a command.

Secrets come from the environment or from files (`TSUIDE_SECRETS`), never from an option, and no
`repr` shows one. Nothing outside this module reads the environment.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import quote, unquote, urlencode, urlsplit, urlunsplit

from pydantic import Field, SecretStr, StringConstraints, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from streams.errors import SettingsError
from streams.failpoints import parse_failpoint

#: A bearer token holds at least 128 bit when it is this long (base64).
TOKEN_CHARS_MIN = 22

#: Kafka allows these in a topic's name; the longest name of ours stays under its limit of 249.
_NAME = r"^[A-Za-z0-9._-]*$"

Address = Annotated[str, StringConstraints(pattern=r"^(\[[0-9A-Fa-f:]+\]|[^\s:,/@]+):[0-9]{1,5}$")]
Addresses = Annotated[
    str,
    StringConstraints(
        pattern=r"^(\[[0-9A-Fa-f:]+\]|[^\s:,/@]+):[0-9]{1,5}(,[^\s,/@]+:[0-9]{1,5})*$"
    ),
]


class Settings(BaseSettings):
    """What a command runs with. Frozen: a change means a new process."""

    model_config = SettingsConfigDict(
        env_prefix="TSUIDE_", frozen=True, extra="forbid", hide_input_in_errors=True
    )

    kafka: Addresses = Field("127.0.0.1:9092", description="Kafka's bootstrap servers")
    redis: str = Field(
        "redis://127.0.0.1:6379/0", description="Redis or Valkey, `redis://` or `rediss://`"
    )
    rules: Path | None = Field(None, description="the folder of the rule book")
    prefix: str = Field(
        "", max_length=64, pattern=_NAME, description="stands before every topic's name"
    )
    group: str = Field(
        "tsuide", min_length=1, max_length=128, pattern=_NAME, description="the consumer group"
    )
    instance: str | None = Field(
        None,
        max_length=128,
        pattern=_NAME,
        description="keeps its partitions over a restart: a name of this worker",
    )
    partitions: int = Field(8, ge=1, le=1024, description="partitions of each customer topic")
    clock: Literal["system", "log"] = Field(
        "system", description="`log`: time stands at the highest record timestamp read"
    )
    clock_jump_seconds: int = Field(
        300,
        ge=60,
        le=86_400,
        description="a larger step of the machine's clock is not followed: timers wait",
    )
    sending: Literal["fast", "fsync"] = Field(
        "fast", description="`fsync`: an offer leaves only after Redis has it on disk"
    )

    http: Address = Field("127.0.0.1:8087", description="where /livez, /readyz, /metrics listen")
    http_token: SecretStr | None = Field(
        None, description="bearer token; required when `http` is not on loopback"
    )
    http_hosts: str = Field(
        "", description="further names, separated by commas, under which `http` may be asked"
    )
    data_dir: Path = Field(Path(".tsuide"), description="keeps the log's key and the demo's data")
    secrets: Path | None = Field(
        None, description="folder of files named like the settings, for instance `kafka_password`"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="")
    log_format: Literal["auto", "json", "text"] = Field(
        "auto", description="`auto`: text on a terminal, else JSON"
    )

    kafka_security: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="Kafka's security protocol"
    )
    kafka_sasl: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        "SCRAM-SHA-512", description="how to log in where the protocol is SASL"
    )
    kafka_username: str | None = Field(None, description="the SASL user")
    kafka_password: SecretStr | None = Field(None, description="its password")
    kafka_cafile: Path | None = Field(None, description="PEM of the authority that signed Kafka")
    kafka_certfile: Path | None = Field(None, description="our certificate for mutual TLS, PEM")
    kafka_keyfile: Path | None = Field(None, description="its key")
    redis_password: SecretStr | None = Field(None, description="Redis's password")
    redis_cafile: Path | None = Field(
        None, description="PEM of the authority that signed Redis, beside those of the system"
    )
    redis_certfile: Path | None = Field(None, description="our certificate for mutual TLS, PEM")
    redis_keyfile: Path | None = Field(None, description="its key")

    erasure_key: SecretStr | None = Field(
        None, description="makes digests of erased customers useless to others; never change it"
    )

    watchdog_seconds: float = Field(
        60, ge=1, le=3600, description="exit when records wait and none was applied for so long"
    )
    session_seconds: float = Field(
        10, ge=3, le=300, description="how long a silent worker keeps its partitions"
    )
    rules_poll_seconds: float = Field(5, ge=0.1, le=3600, description="looks for a changed book")
    batch_records: int = Field(4000, ge=1, le=20_000, description="most records of one apply")
    buffer_records: int = Field(
        8192, ge=16, le=1_000_000, description="most records that wait in memory, a topic partition"
    )
    buffer_bytes: int = Field(
        4 * 1024 * 1024,
        ge=65_536,
        le=1 << 30,
        description="most bytes of records that wait in memory, a topic partition",
    )
    cache_customers: int = Field(
        100_000, ge=0, le=10_000_000, description="most customers kept in memory, a worker"
    )
    cache_bytes: int = Field(
        128 * 1024 * 1024,
        ge=0,
        le=1 << 40,
        description="most bytes of them, packed; in use they take four to six times as much",
    )
    failpoint: str = Field(
        "", max_length=128, description="for tests: `NAME:kill@N`, see `streams/failpoints.py`"
    )
    dead_letters_per_second: int = Field(
        100,
        ge=1,
        le=1_000_000,
        description="letters of a reason, a partition; beyond it one stands for many",
    )
    timers_per_second: int = Field(
        2000, ge=1, le=1_000_000, description="most overdue timers fired, a partition"
    )

    @model_validator(mode="before")
    @classmethod
    def _split_redis_password(cls, values: Any) -> Any:
        """Move a password out of the address, so that no log or `repr` can show it."""
        if not isinstance(values, dict):
            return values
        url = values.get("redis")
        if not isinstance(url, str) or "@" not in url:
            return values
        parts = urlsplit(url)
        if parts.password is not None:
            user = quote(unquote(parts.username or ""), safe="")
            host = parts.netloc.rsplit("@", 1)[1]
            values = {
                **values,
                "redis": urlunsplit(parts._replace(netloc=f"{user}@{host}" if user else host)),
                "redis_password": unquote(parts.password),
            }
        return values

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if urlsplit(self.redis).scheme not in ("redis", "rediss", "unix"):
            raise ValueError("redis: begins with redis://, rediss:// or unix://")
        if self.http_port > 65535:
            raise ValueError("http: the port is over 65535")
        token = self.http_token.get_secret_value() if self.http_token else None
        if token is not None and len(token) < TOKEN_CHARS_MIN:
            raise ValueError(f"http_token: needs at least {TOKEN_CHARS_MIN} characters")
        if token is None and not self.http_is_loopback:
            raise ValueError(
                "http: not a loopback address, so TSUIDE_HTTP_TOKEN is required "
                "(or listen on 127.0.0.1)"
            )
        if self.kafka_security.startswith("SASL") and not (
            self.kafka_username and self.kafka_password
        ):
            raise ValueError(
                f"kafka_security: {self.kafka_security} needs TSUIDE_KAFKA_USERNAME and "
                "TSUIDE_KAFKA_PASSWORD"
            )
        self._check_certificates("kafka", self.kafka_security.endswith("SSL"), "kafka_security")
        self._check_certificates("redis", urlsplit(self.redis).scheme == "rediss", "redis")
        key = self.erasure_key.get_secret_value() if self.erasure_key else None
        if key is not None and len(key) < TOKEN_CHARS_MIN:
            raise ValueError(f"erasure_key: needs at least {TOKEN_CHARS_MIN} characters")
        if self.failpoint:
            parse_failpoint(self.failpoint)
        return self

    def _check_certificates(self, server: str, tls: bool, where: str) -> None:
        """Refuse files that cannot be used now, and such as would be passed over in silence."""
        names = [f"{server}_{kind}" for kind in ("cafile", "certfile", "keyfile")]
        paths: list[Path | None] = [getattr(self, name) for name in names]
        for name, path in zip(names, paths, strict=True):
            if path is not None and not tls:
                raise ValueError(f"{name}: TSUIDE_{where.upper()} does not ask for TLS")
            if path is not None and not path.is_file():
                raise ValueError(f"{name}: there is no such file")
        if paths[2] and not paths[1]:
            raise ValueError(f"{names[2]}: the certificate is missing, {names[1]}")
        if any(paths):
            from streams.tls import client_context, tls_reason

            try:
                client_context(*paths)
            except OSError as error:
                why = tls_reason(error) or type(error).__name__
                given = ", ".join(n for n, path in zip(names, paths, strict=True) if path)
                raise ValueError(f"{given}: cannot be used ({why})") from None

    @property
    def http_host(self) -> str:
        """The host of `http`, without brackets."""
        return self.http.rsplit(":", 1)[0].strip("[]")

    @property
    def http_port(self) -> int:
        """The port of `http`; 0 takes any free one."""
        return int(self.http.rsplit(":", 1)[1])

    @property
    def http_is_loopback(self) -> bool:
        """Whether only this machine can reach `http`."""
        if self.http_host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.http_host).is_loopback
        except ValueError:
            return False

    def topic(self, name: str) -> str:
        """The name in Kafka of the contract's topic `name`."""
        return self.prefix + name

    def kafka_options(self) -> dict[str, Any]:
        """How to reach Kafka, under the names that kafka-python and aiokafka share."""
        options: dict[str, Any] = {
            "bootstrap_servers": self.kafka.split(","),
            "security_protocol": self.kafka_security,
        }
        if self.kafka_security.endswith("SSL"):
            from streams.tls import client_context

            options["ssl_context"] = client_context(
                self.kafka_cafile, self.kafka_certfile, self.kafka_keyfile
            )
        if self.kafka_security.startswith("SASL"):
            assert self.kafka_password is not None
            options |= {
                "sasl_mechanism": self.kafka_sasl,
                "sasl_plain_username": self.kafka_username,
                "sasl_plain_password": self.kafka_password.get_secret_value(),
            }
        return options

    def erasure_key_bytes(self) -> bytes:
        """The key of the ledger's digests; empty where none was given."""
        return self.erasure_key.get_secret_value().encode() if self.erasure_key else b""

    def redis_url(self) -> str:
        """The address of Redis with its password and certificates, as redis-py reads it: hand it
        to the client, show it nobody.
        """
        parts = urlsplit(self.redis)
        files = {
            "ssl_ca_certs": self.redis_cafile,
            "ssl_certfile": self.redis_certfile,
            "ssl_keyfile": self.redis_keyfile,
        }
        given = urlencode({name: str(path) for name, path in files.items() if path})
        parts = parts._replace(query="&".join(filter(None, (parts.query, given))))
        if self.redis_password is None:
            return urlunsplit(parts)
        user, at, host = parts.netloc.rpartition("@")
        secret = quote(self.redis_password.get_secret_value(), safe="")
        return urlunsplit(parts._replace(netloc=f"{user if at else ''}:{secret}@{host}"))


def load_settings(**overrides: Any) -> Settings:
    """Settings from the environment; an override that is not None wins.

    Raises `SettingsError`, which names each wrong setting and shows no value.
    """
    given = {name: value for name, value in overrides.items() if value is not None}
    unknown = _unknown_names(os.environ)
    if unknown:
        raise SettingsError([f"{name}: there is no such setting" for name in unknown])
    folder = given.get("secrets") or os.environ.get("TSUIDE_SECRETS")
    try:
        if folder is not None:
            given = {**_read_secrets(Path(folder)), **given}
        return Settings(**given)
    except ValidationError as error:
        lines = []
        for fault in error.errors(include_url=False, include_input=False):
            place = ".".join(str(part) for part in fault["loc"])
            text = fault["msg"].removeprefix("Value error, ")
            lines.append(f"TSUIDE_{place.upper()}: {text}" if place else f"TSUIDE: {text}")
        raise SettingsError(lines) from None


#: Read by the tests and the benchmarks, not by the program.
_FOREIGN = ("TSUIDE_TEST_", "TSUIDE_BENCH_")


def _unknown_names(environ: Mapping[str, str]) -> list[str]:
    """A misspelt setting must not be passed over in silence."""
    known = {f"TSUIDE_{name.upper()}" for name in Settings.model_fields}
    return sorted(
        name
        for name in environ
        if name.startswith("TSUIDE_") and name not in known and not name.startswith(_FOREIGN)
    )


def _read_secrets(folder: Path) -> dict[str, str]:
    """The secrets that lie as files in `folder`; a file that anybody may read is refused."""
    found: dict[str, str] = {}
    for name, field in Settings.model_fields.items():
        path = folder / name
        if field.annotation != SecretStr | None or not path.is_file():
            continue
        if path.stat().st_mode & 0o007:
            raise SettingsError([f"{path}: everybody may read it; chmod 600 {path}"])
        found[name] = path.read_text(encoding="utf-8").strip()
    return found
