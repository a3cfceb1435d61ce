"""Settings: one table, read from the environment with the prefix ``CDS_``."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """What an operator can set. Lengths of time are in milliseconds, sizes in bytes.

    ``base_url`` is the address under which EHRs know the service; the audience of their tokens is
    built from it and never from request headers. ``allowed_origins`` are the browser origins that
    may call (CORS), separated by commas. ``jurisdiction`` is where it works (ISO 3166-1, two
    letters): which medicines are licensed there.
    """

    model_config = SettingsConfigDict(env_prefix="CDS_", extra="ignore")

    base_url: str = "http://127.0.0.1:8000"
    auth: Literal["required", "open"] = "required"
    clients: Path | None = None
    content_dir: Path | None = None
    jurisdiction: str = Field(default="US", pattern=r"^[A-Z]{2}$")
    allowed_origins: str = ""
    max_body_bytes: int = Field(default=16 * 1024 * 1024, gt=0)
    deadline_ms: int = Field(default=400, gt=0)

    @field_validator("base_url")
    @classmethod
    def _without_slash(cls, url: str) -> str:
        if not url.startswith(("http://", "https://")):
            raise ValueError("CDS_BASE_URL must start with https:// (or http://)")
        return url.rstrip("/")

    @property
    def origins(self) -> frozenset[str]:
        """The allowed browser origins."""
        return frozenset(o.strip() for o in self.allowed_origins.split(",") if o.strip())
