"""The settings of the service, read from environment variables with the prefix ``CDS_``."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, DirectoryPath, Field, FilePath, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from .errors import CannotStart

PREFIX = "CDS_"
# Variables that docker-compose.yml reads, and the service does not.
COMPOSE_VARIABLES = frozenset(
    f"{PREFIX}{name}"
    for name in (
        *("CLIENTS_FILE", "DATABASE_PASSWORD", "PORT"),
        *(f"{image}_IMAGE" for image in ("DATABASE", "FHIR", "FRONT", "PROMETHEUS", "PYTHON")),
    )
)
# Old names of variables, with the settings that they are now.
OLD_NAMES = {f"{PREFIX}QUIET": "suppression"}
MOST_BODY_BYTES, BODY_MS = 16 * 1024 * 1024, 5000  # the size and the time of a request body
READING_AT_ONCE = 6  # requests of a worker that may wait for FHIR servers
SHORTEST_KEY, SHORTEST_PASSWORD = 16, 12  # characters; a shorter secret could be guessed


@dataclass(frozen=True)
class MustBe:
    """What the value of a setting must be: the end of a sentence "CDS_... must be ..."."""

    says: str


class SettingsError(CannotStart):
    """Settings that cannot be used. The message has a line for each: its name and what it must be.

    The message does not repeat values: a value may be a secret, or contain one.
    """


def read_settings(**given: Any) -> Settings:
    """The settings from the environment; those in ``given`` replace it.

    Raises ``SettingsError`` for values that cannot be used, and for variables ``CDS_...`` that are
    no settings: otherwise a misspelt variable would be ignored silently.
    """
    lines = _unknown_variables(os.environ)
    set_now = _set_variables()
    for old, name in OLD_NAMES.items():
        if old in set_now and variable(name) not in set_now:
            given.setdefault(name, set_now[old])
    try:
        settings = Settings(**given)
    except ValidationError as error:
        names = dict.fromkeys(str(problem["loc"][0]) for problem in error.errors())
        lines += [f"{variable(name)} must be {must_be(name)}." for name in names]
    if lines:
        raise SettingsError("\n".join(lines)) from None
    return settings


def variable(name: str) -> str:
    """The environment variable of a setting."""
    return f"{PREFIX}{name.upper()}"


def must_be(name: str) -> str:
    """What the value of a setting must be: the end of a sentence "CDS_... must be ..."."""
    (says,) = [m.says for m in Settings.model_fields[name].metadata if isinstance(m, MustBe)]
    return says


def old_variables() -> list[str]:
    """A sentence for each variable of the environment that is set by its old name."""
    set_now = _set_variables()
    return [
        f"{old} is {variable(name)} now; the old name goes with the next release"
        + ("; it is ignored, as both are set" if variable(name) in set_now else "")
        for old, name in OLD_NAMES.items()
        if old in set_now
    ]


def _set_variables() -> dict[str, str]:
    """The variables that are set and not empty, by their names in capital letters."""
    return {name.upper(): value for name, value in os.environ.items() if value}


def _unknown_variables(environment: Iterable[str]) -> list[str]:
    """A line for each ``CDS_`` variable that is no setting, and not in ``COMPOSE_VARIABLES``."""
    known = {variable(name) for name in Settings.model_fields}
    lines = []
    for given in sorted(environment):
        name = given.upper()  # settings are read without regard to upper and lower case
        if name.startswith(PREFIX) and name not in known | COMPOSE_VARIABLES | OLD_NAMES.keys():
            (nearest,) = get_close_matches(name, sorted(known), n=1, cutoff=0)
            lines.append(f"{given} is not a setting; the nearest name is {nearest}.")
    return lines


def _check_base_url(url: str) -> str:
    if not _is_http_url(url):
        raise ValueError
    return url.rstrip("/")


def _is_http_url(url: str) -> bool:
    """Whether a text is an http or https URL with a host and, if it has a port, a valid one."""
    parts = urlsplit(url)
    return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0


def _check_networks(text: str) -> str:
    for each in _split_list(text):
        ip_network(each)
    return text


def _check_origins(text: str) -> str:
    for each in _split_list(text):
        if not _is_http_url(each) or urlsplit(each).path or "?" in each or "#" in each:
            raise ValueError
    return text


def _at_least(least: int) -> AfterValidator:
    def check(secret: SecretStr) -> SecretStr:
        if secret.get_secret_value() and len(secret.get_secret_value().strip()) < least:
            raise ValueError
        return secret

    return AfterValidator(check)


def _describe_secret(least: int) -> str:
    return f"a text of {least} characters or more, such as what 'openssl rand -hex 32' prints"


def _check_parent_directory(path: Path) -> Path:
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise ValueError
    return path


def _check_certificates(path: Path) -> Path:
    try:
        ssl.create_default_context(cafile=path)
    except OSError:  # also if the certificates are not valid: ``SSLError`` is an ``OSError``
        raise ValueError from None
    return path


def _check_database_url(url: str) -> str:
    try:
        dialect = make_url(url).get_dialect()
        dialect.import_dbapi()
    except (SQLAlchemyError, ImportError):
        raise ValueError from None
    if dialect.name not in ("sqlite", "postgresql"):
        raise ValueError
    return url


Switch = Annotated[bool, MustBe("true or false")]
Count = Annotated[int, Field(gt=0), MustBe("a whole number greater than 0")]
Key = Annotated[SecretStr, _at_least(SHORTEST_KEY), MustBe(_describe_secret(SHORTEST_KEY))]
Password = Annotated[
    SecretStr, _at_least(SHORTEST_PASSWORD), MustBe(_describe_secret(SHORTEST_PASSWORD))
]


class Settings(BaseSettings):
    """The settings of an operator. Durations are in milliseconds, sizes in bytes.

    The type of a setting says which values are allowed, and the description says what the setting
    means. The table in ``docs/connect.md`` is generated from both.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, extra="ignore", env_ignore_empty=True, hide_input_in_errors=True
    )

    base_url: Annotated[
        str,
        AfterValidator(_check_base_url),
        MustBe("an address that starts with https:// (or http://) and names a host"),
    ] = Field(
        default="http://127.0.0.1:8000",
        description="the address under which EHRs know the service; the audience of their tokens "
        "is built from it, and never from the headers of a request",
    )
    auth: Annotated[Literal["required", "open"], MustBe("required or open")] = Field(
        default="required",
        description="whether callers need a token; with `open` anyone may call, for a trial",
    )
    clients: Annotated[
        FilePath | None, MustBe("a file of clients, which is there and can be read")
    ] = Field(default=None, description="the file of clients: who may call")
    database_url: Annotated[
        str,
        AfterValidator(_check_database_url),
        MustBe(
            "the address of a SQLite or PostgreSQL database: sqlite:///FILE, or "
            "postgresql+psycopg://USER:PASSWORD@HOST/NAME"
        ),
    ] = Field(
        default="sqlite:///lactation-cds.sqlite3",
        description="the database of used tokens, feedback and the log of cards; several machines "
        "share a PostgreSQL, over TLS with `?sslmode=verify-full&sslrootcert=FILE`, or `=system` "
        "for the authorities of the machine",
    )
    private_networks: Annotated[
        str,
        AfterValidator(_check_networks),
        MustBe(
            "networks as CIDR without host bits, separated by commas, such as 10.0.0.0/8",
        ),
    ] = Field(
        default="",
        description="networks that calls may go to although they are not on the open internet",
    )
    ca_file: Annotated[
        Annotated[FilePath, AfterValidator(_check_certificates)] | None,
        MustBe("a file of certificates in PEM, which is there and can be read"),
    ] = Field(
        default=None,
        description="the authorities that sign the certificates of FHIR servers, in place of "
        "those that browsers trust",
    )
    open_beyond_loopback: Switch = Field(
        default=False, description="confirms that an open service may listen to other machines"
    )
    patient_key: Key = Field(
        default=SecretStr(""),
        description="a secret, the same for all workers and machines, by which digests of "
        "patients are made; without it overridden cards are not held back",
    )
    patient_key_before: Key = Field(
        default=SecretStr(""),
        description="while the key is being changed, the previous key: overrides that were stored "
        "with it still count",
    )
    dashboard_password: Password = Field(
        default=SecretStr(""),
        description="the password of `/dashboard`; without it there is no dashboard",
    )
    dashboard_password_before: Password = Field(
        default=SecretStr(""),
        description="while the password is being changed, the previous one, which still opens "
        "the dashboard",
    )
    suppression: Switch = Field(default=True, description="hold back cards that were overridden")
    overrides_count_for: Annotated[
        Literal["user", "clinicians", "everyone"], MustBe("user, clinicians or everyone")
    ] = Field(
        default="clinicians",
        description="for whom an override by a clinician counts: for that `user`, for all "
        "`clinicians`, or for `everyone`, patients who look at their own charts too",
    )
    explain: Switch = Field(
        default=False, description="say in the answer which cards are held back, and why"
    )
    keep_days: Count = Field(
        default=400,
        description="for how many days shown cards and feedback are kept: see `cds-service forget`",
    )
    keep_comments: Switch = Field(
        default=False,
        description="store the comments of clinicians on cards, which may name a patient; "
        "otherwise only that there was a comment",
    )
    metrics: Switch = Field(default=False, description="publish Prometheus metrics at `/metrics`")
    traces: Switch = Field(
        default=False,
        description="send OpenTelemetry traces to where `OTEL_EXPORTER_OTLP_ENDPOINT` says",
    )
    content_dir: Annotated[DirectoryPath | None, MustBe("a directory, which is there")] = Field(
        default=None, description="the overlay: a directory laid over the shipped content"
    )
    pid_file: Annotated[
        Annotated[Path, AfterValidator(_check_parent_directory)] | None,
        MustBe("a file in a directory that is there"),
    ] = Field(default=None, description="where `serve` writes its process id, for `content reload`")
    jurisdiction: Annotated[
        str,
        Field(pattern=r"^[A-Z]{2}$"),
        MustBe("a country by its two capital letters (ISO 3166-1), such as US or DE"),
    ] = Field(
        default="US",
        description="where the service is used: a medicine such as domperidone is offered only "
        "where it is known to be licensed",
    )
    time_zone: Annotated[
        ZoneInfo | None, MustBe("the IANA name of a time zone, such as Europe/Berlin")
    ] = Field(
        default=None,
        description="the time zone of times without an offset and of dates without a time; if it "
        "is not set, such times are reported as not read, and such dates are taken as UTC",
    )
    allowed_origins: Annotated[
        str,
        AfterValidator(_check_origins),
        MustBe(
            "origins of browsers, separated by commas, each with its scheme and without a path, "
            "such as https://ehr.example.org"
        ),
    ] = Field(default="", description="the browser origins that may call (CORS)")
    max_body_bytes: Count = Field(
        default=MOST_BODY_BYTES, description="bytes; a larger request is refused with 413"
    )
    body_ms: Count = Field(
        default=BODY_MS,
        description="milliseconds; a body that takes longer to come is refused with 408",
    )
    deadline_ms: Count = Field(
        default=400, description="milliseconds for all reading from a FHIR server"
    )
    at_once: Count = Field(
        default=16,
        description="how many requests a worker answers at once; below the number of its threads "
        "(`--threads`), so that threads are left to refuse further requests",
    )
    reading_at_once: Count = Field(
        default=READING_AT_ONCE,
        description="how many of these requests may wait for FHIR servers",
    )

    @property
    def patient_keys(self) -> list[str]:
        """The secrets for digests of patients, the current one first; empty if none is set."""
        return _secrets(self.patient_key, self.patient_key_before)

    @property
    def dashboard_passwords(self) -> list[str]:
        """The passwords that open the dashboard; empty if the dashboard is switched off."""
        return _secrets(self.dashboard_password, self.dashboard_password_before)

    @property
    def networks(self) -> list[IPv4Network | IPv6Network]:
        """The private networks to which calls may go."""
        return [ip_network(each) for each in _split_list(self.private_networks)]

    @property
    def origins(self) -> frozenset[str]:
        """The allowed browser origins."""
        return frozenset(_split_list(self.allowed_origins))


def _secrets(now: SecretStr, before: SecretStr) -> list[str]:
    """The current secret and the previous one; the previous one does not count alone."""
    both = [now.get_secret_value(), before.get_secret_value()]
    return [secret for secret in both if secret] if both[0] else []


def _split_list(text: str) -> list[str]:
    return [each.strip() for each in text.split(",") if each.strip()]
