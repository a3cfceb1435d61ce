"""Settings: one table, read from the environment with the prefix ``CDS_``."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Literal
from zoneinfo import ZoneInfo

from pydantic import Field, FilePath, SecretStr, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

LEAST = {"patient_key": 16, "dashboard_password": 12}  # characters of a secret


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
    which a patient is known again; without it no card is ``quiet`` that was overridden.
    ``overrides_count_for`` is for whom an override by a clinician counts: for that ``user``, for
    all ``clinicians``, or for ``everyone``, patients who look at their own charts too. ``explain``
    says in the answer which cards are held back. ``keep_days`` is for how long the ledger is kept.
    ``dashboard_password`` opens ``/dashboard``, for whoever knows it.
    ``open_beyond_loopback`` says that an open service may listen to other machines.
    """

    model_config = SettingsConfigDict(
        env_prefix="CDS_", extra="ignore", env_ignore_empty=True, hide_input_in_errors=True
    )

    base_url: str = "http://127.0.0.1:8000"
    auth: Literal["required", "open"] = "required"
    clients: Path | None = None
    content_dir: Path | None = None
    pid_file: Path | None = None
    jurisdiction: str = Field(default="US", pattern=r"^[A-Z]{2}$")
    database_url: str = "sqlite:///lactation-cds.sqlite3"
    time_zone: ZoneInfo | None = None
    private_networks: str = ""
    ca_file: FilePath | None = None
    open_beyond_loopback: bool = False
    metrics: bool = False
    traces: bool = False
    keep_comments: bool = False
    patient_key: SecretStr = SecretStr("")
    quiet: bool = True
    overrides_count_for: Literal["user", "clinicians", "everyone"] = "clinicians"
    dashboard_password: SecretStr = SecretStr("")
    explain: bool = False
    keep_days: int = Field(default=400, gt=0)
    allowed_origins: str = ""
    max_body_bytes: int = Field(default=16 * 1024 * 1024, gt=0)
    body_ms: int = Field(default=5000, gt=0)
    deadline_ms: int = Field(default=400, gt=0)
    at_once: int = Field(default=16, gt=0)
    reading_at_once: int = Field(default=6, gt=0)

    @field_validator("base_url")
    @classmethod
    def _without_slash(cls, url: str) -> str:
        if not url.startswith(("http://", "https://")):
            raise ValueError("CDS_BASE_URL must start with https:// (or http://)")
        return url.rstrip("/")

    @field_validator("patient_key", "dashboard_password")
    @classmethod
    def _is_no_guess(cls, secret: SecretStr, info: ValidationInfo) -> SecretStr:
        least = LEAST[info.field_name or ""]
        text = secret.get_secret_value()
        if text and len(text.strip()) < least:
            raise ValueError(
                f"must have {least} characters or more, such as what 'openssl rand -hex 32' prints"
            )
        return secret

    @field_validator("private_networks")
    @classmethod
    def _are_networks(cls, text: str) -> str:
        for each in _listed(text):
            ip_network(each)
        return text

    @property
    def networks(self) -> list[IPv4Network | IPv6Network]:
        """The private networks to which calls may go."""
        return [ip_network(each) for each in _listed(self.private_networks)]

    @property
    def origins(self) -> frozenset[str]:
        """The allowed browser origins."""
        return frozenset(_listed(self.allowed_origins))


def _listed(text: str) -> list[str]:
    return [each.strip() for each in text.split(",") if each.strip()]
