"""Everything that can be set, read in one place."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict


class Settings(BaseSettings):
    """Environment variables with the prefix ``NICHEMERGE_``.

    ``home`` holds the database, artifacts, logs and playground unless they are put elsewhere.
    Several folders in one variable are separated by a colon.
    """

    model_config = SettingsConfigDict(env_prefix="NICHEMERGE_", frozen=True)

    home: Path = Path(".nichemerge")
    database_url: str | None = None
    artifacts: str | None = None
    ray_address: str | None = None
    model_roots: Annotated[tuple[Path, ...], NoDecode] = ()
    task_folders: Annotated[tuple[Path, ...], NoDecode] = ()
    api_token: SecretStr | None = None
    slots: int | None = Field(default=None, ge=1)
