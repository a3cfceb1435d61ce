"""Settings: one table, read from the environment with the prefix ``CDS_``."""

from __future__ import annotations

import ssl
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

SWITCH = "true or false"
NUMBER = "a whole number greater than 0"


# Characters of a secret, fewer could be guessed.
MOST_BODY_BYTES, BODY_MS = 16 * 1024 * 1024, 5000  # of a request: its body, and how long that takes
LEAST_OF_A_KEY, LEAST_OF_A_PASSWORD = 16, 12


class SettingsError(CannotStart):
    """Settings that cannot be used. The message has a line for each: its name and what it must be.

    What was set is not repeated: it may be a secret, or hold one.
    """


def read_settings(**given: Any) -> Settings:
    """The settings from the environment, with others in place of some. Raises ``SettingsError``."""
    try:
        return Settings(**given)
    except ValidationError as error:
        names = dict.fromkeys(str(problem["loc"][0]) for problem in error.errors())
        fields = Settings.model_fields
        lines = [f"CDS_{name.upper()} must be {fields[name].description}." for name in names]
        raise SettingsError("\n".join(lines)) from None


def _base_of(url: str) -> str:
    if not _is_address(url):
        raise ValueError
    return url.rstrip("/")


def _is_address(url: str) -> bool:
    """Whether it is an address of HTTP that names a host, and a port that can be one, if any."""
    parts = urlsplit(url)
    return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0


def _networks(text: str) -> str:
    for each in _listed(text):
        ip_network(each)
    return text


def _origins(text: str) -> str:
    for each in _listed(text):
        if not _is_address(each) or urlsplit(each).path or "?" in each or "#" in each:
            raise ValueError
    return text


def _of_at_least(least: int) -> AfterValidator:
    def check(secret: SecretStr) -> SecretStr:
        if secret.get_secret_value() and len(secret.get_secret_value().strip()) < least:
            raise ValueError
        return secret

    return AfterValidator(check)


def _secret_of(least: int) -> str:
    return f"a text of {least} characters or more, such as what 'openssl rand -hex 32' prints"


def _in_a_directory(path: Path) -> Path:
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise ValueError
    return path


def _of_authorities(path: Path) -> Path:
    try:
        ssl.create_default_context(cafile=path)
    except OSError:  # what it holds is an error of SSL, which is one of these
        raise ValueError from None
    return path


def _of_a_database(url: str) -> str:
    try:
        dialect = make_url(url).get_dialect()
        dialect.import_dbapi()
    except (SQLAlchemyError, ImportError):
        raise ValueError from None
    if dialect.name not in ("sqlite", "postgresql"):
        raise ValueError
    return url


class Settings(BaseSettings):
    """What an operator can set. Lengths of time are in milliseconds, sizes in bytes.

    ``base_url`` is the address under which EHRs know the service; the audience of their tokens is
    built from it and never from request headers. ``allowed_origins`` are the browser origins that
    may call (CORS), separated by commas. ``jurisdiction`` is where it works (ISO 3166-1, two
    letters): which medicines are licensed there. ``private_networks`` are those, as CIDR and
    separated by commas, to which calls may go although they are not on the open internet, and
    ``ca_file`` the authorities (PEM) that sign the certificates there.
    ``time_zone`` (IANA name) is where times without an offset and dates without a time are; if it
    is not set, such times are not read and such dates are in UTC.
    ``body_ms`` is how long the body of a request may take, and ``deadline_ms`` all reading from
    FHIR servers. ``at_once`` is how many requests a worker answers at once, and ``reading_at_once``
    how many of them may wait for FHIR servers; the rest is told to come again. Both should be below
    the number of its threads. ``metrics`` publishes Prometheus metrics at ``/metrics``, and
    ``traces`` sends OpenTelemetry traces to where ``OTEL_EXPORTER_OTLP_ENDPOINT`` says.
    ``pid_file`` is where ``serve`` writes its process id, for ``content reload`` to find it.
    ``keep_comments`` keeps what clinicians write of a card; else only that they wrote.
    ``patient_key`` is a secret, the same for all workers and machines, that makes the digests by
    which a patient is known again; without it no card is ``quiet`` that was overridden. While it
    is changed, ``patient_key_before`` is the old one: what was overridden under it counts too.
    ``overrides_count_for`` is for whom an override by a clinician counts: for that ``user``, for
    all ``clinicians``, or for ``everyone``, patients who look at their own charts too. ``explain``
    says in the answer which cards are held back. ``keep_days`` is for how long the ledger is kept.
    ``dashboard_password`` opens ``/dashboard``, for whoever knows it, and while it is changed
    ``dashboard_password_before`` does too.
    ``open_beyond_loopback`` says that an open service may listen to other machines.

    Of each, the description says what it must be: "CDS_... must be ...".
    """

    model_config = SettingsConfigDict(
        env_prefix="CDS_", extra="ignore", env_ignore_empty=True, hide_input_in_errors=True
    )

    base_url: Annotated[str, AfterValidator(_base_of)] = Field(
        default="http://127.0.0.1:8000",
        description="an address that starts with https:// (or http://) and names a host",
    )
    auth: Literal["required", "open"] = Field(default="required", description="required or open")
    clients: FilePath | None = Field(
        default=None, description="a file of clients, which is there and can be read"
    )
    content_dir: DirectoryPath | None = Field(
        default=None, description="a directory, which is there"
    )
    pid_file: Annotated[Path, AfterValidator(_in_a_directory)] | None = Field(
        default=None, description="a file in a directory that is there"
    )
    jurisdiction: str = Field(
        default="US",
        pattern=r"^[A-Z]{2}$",
        description="a country by its two capital letters (ISO 3166-1), such as US or DE",
    )
    database_url: Annotated[str, AfterValidator(_of_a_database)] = Field(
        default="sqlite:///lactation-cds.sqlite3",
        description="the address of a SQLite or PostgreSQL database: sqlite:///FILE, or "
        "postgresql+psycopg://USER:PASSWORD@HOST/NAME",
    )
    time_zone: ZoneInfo | None = Field(
        default=None, description="the IANA name of a time zone, such as Europe/Berlin"
    )
    private_networks: Annotated[str, AfterValidator(_networks)] = Field(
        default="",
        description="networks as CIDR without host bits, separated by commas, such as 10.0.0.0/8",
    )
    ca_file: Annotated[FilePath, AfterValidator(_of_authorities)] | None = Field(
        default=None, description="a file of certificates in PEM, which is there and can be read"
    )
    open_beyond_loopback: bool = Field(default=False, description=SWITCH)
    metrics: bool = Field(default=False, description=SWITCH)
    traces: bool = Field(default=False, description=SWITCH)
    keep_comments: bool = Field(default=False, description=SWITCH)
    patient_key: Annotated[SecretStr, _of_at_least(LEAST_OF_A_KEY)] = Field(
        default=SecretStr(""), description=_secret_of(LEAST_OF_A_KEY)
    )
    patient_key_before: Annotated[SecretStr, _of_at_least(LEAST_OF_A_KEY)] = Field(
        default=SecretStr(""), description=_secret_of(LEAST_OF_A_KEY)
    )
    quiet: bool = Field(default=True, description=SWITCH)
    overrides_count_for: Literal["user", "clinicians", "everyone"] = Field(
        default="clinicians", description="user, clinicians or everyone"
    )
    dashboard_password: Annotated[SecretStr, _of_at_least(LEAST_OF_A_PASSWORD)] = Field(
        default=SecretStr(""), description=_secret_of(LEAST_OF_A_PASSWORD)
    )
    dashboard_password_before: Annotated[SecretStr, _of_at_least(LEAST_OF_A_PASSWORD)] = Field(
        default=SecretStr(""), description=_secret_of(LEAST_OF_A_PASSWORD)
    )
    explain: bool = Field(default=False, description=SWITCH)
    keep_days: int = Field(default=400, gt=0, description=NUMBER)
    allowed_origins: Annotated[str, AfterValidator(_origins)] = Field(
        default="",
        description="origins of browsers, separated by commas, each with its scheme and without a "
        "path, such as https://ehr.example.org",
    )
    max_body_bytes: int = Field(default=MOST_BODY_BYTES, gt=0, description=NUMBER)
    body_ms: int = Field(default=BODY_MS, gt=0, description=NUMBER)
    deadline_ms: int = Field(default=400, gt=0, description=NUMBER)
    at_once: int = Field(default=16, gt=0, description=NUMBER)
    reading_at_once: int = Field(default=6, gt=0, description=NUMBER)

    @property
    def patient_keys(self) -> list[str]:
        """The secret by which patients are known, and the one before it; none if there is none."""
        return _secrets(self.patient_key, self.patient_key_before)

    @property
    def dashboard_passwords(self) -> list[str]:
        """What opens the dashboard; nothing if it is closed."""
        return _secrets(self.dashboard_password, self.dashboard_password_before)

    @property
    def networks(self) -> list[IPv4Network | IPv6Network]:
        """The private networks to which calls may go."""
        return [ip_network(each) for each in _listed(self.private_networks)]

    @property
    def origins(self) -> frozenset[str]:
        """The allowed browser origins."""
        return frozenset(_listed(self.allowed_origins))


def _secrets(now: SecretStr, before: SecretStr) -> list[str]:
    """A secret and the one before it; that one is nothing alone."""
    both = [now.get_secret_value(), before.get_secret_value()]
    return [secret for secret in both if secret] if both[0] else []


def _listed(text: str) -> list[str]:
    return [each.strip() for each in text.split(",") if each.strip()]
