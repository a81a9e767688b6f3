"""Everything that can be set, read in one place."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict


class Settings(BaseSettings):
    """Environment variables with the prefix ``NICHEMERGE_``.

    ``home`` holds the database, artifacts, logs and playground unless they are put elsewhere.
    Several folders in one variable are separated by a colon, several host names or patterns by a
    comma. ``hub_allow`` has patterns of Hub ids (``org/*``) that may be downloaded for a search; by
    default only what is in the local cache is used. Tasks in ``trusted_task_folders`` may bring
    Python, which every worker runs: whoever can write there can run anything.

    A server that is not on the loopback interface must have an API token.
    """

    model_config = SettingsConfigDict(env_prefix="NICHEMERGE_", frozen=True)

    home: Path = Path(".nichemerge")
    host: str = "127.0.0.1"
    port: int = Field(default=8765, ge=0, le=65535)
    database_url: str | None = None
    artifacts: str | None = None
    ray_address: str | None = None
    model_roots: Annotated[tuple[Path, ...], NoDecode] = ()
    task_folders: Annotated[tuple[Path, ...], NoDecode] = ()
    trusted_task_folders: Annotated[tuple[Path, ...], NoDecode] = ()
    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = ()
    hub_allow: Annotated[tuple[str, ...], NoDecode] = ()
    api_token: SecretStr | None = Field(default=None, min_length=16)
    slots: int | None = Field(default=None, ge=1)

    @field_validator("model_roots", "task_folders", "trusted_task_folders", mode="before")
    @classmethod
    def _split_folders(cls, value: Any) -> Any:
        return [part for part in value.split(":") if part] if isinstance(value, str) else value

    @field_validator("allowed_hosts", "hub_allow", mode="before")
    @classmethod
    def _split_names(cls, value: Any) -> Any:
        return (
            [part.strip() for part in value.split(",") if part.strip()]
            if isinstance(value, str)
            else value
        )

    @model_validator(mode="after")
    def _exposed_only_with_a_token(self) -> Self:
        if not self.is_loopback and self.api_token is None:
            raise ValueError(
                f"host {self.host} can be reached by others: set NICHEMERGE_API_TOKEN to a long "
                "random string, or serve on 127.0.0.1"
            )
        return self

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the server."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def database(self) -> str:
        """URL of the database."""
        return self.database_url or f"sqlite:///{self.home.resolve() / 'nichemerge.db'}"

    @property
    def artifact_url(self) -> str:
        """Where checkpoints are kept: a folder, or any URL that fsspec understands."""
        return self.artifacts or str(self.home.resolve() / "artifacts")

    @property
    def checkpoint_folder(self) -> Path:
        """Where checkpoints take room on this machine, if only on their way to a store far away."""
        far = "://" in self.artifact_url
        return self.home.resolve() if far else Path(self.artifact_url)

    @property
    def playground(self) -> Path:
        """Folder of the playground, built by the demo."""
        return self.home.resolve() / "playground"

    @property
    def roots(self) -> tuple[Path, ...]:
        """Folders that models may lie in; relative paths of a spec start at each of them in turn.

        By default where the server was started, and its home.
        """
        given = self.model_roots or (Path.cwd(), self.home)
        return tuple(root.resolve() for root in given)

    @property
    def tasks(self) -> tuple[Path, ...]:
        """Existing folders of task YAML; by default ``tasks`` at home, and the playground's.

        Those whose Python is trusted come last.
        """
        given = self.task_folders or (self.home / "tasks", self.playground / "tasks")
        found = (folder.resolve() for folder in given if folder.is_dir())
        return tuple(dict.fromkeys((*found, *self.trusted_tasks)))

    @property
    def trusted_tasks(self) -> tuple[Path, ...]:
        """Existing folders whose tasks may bring Python."""
        return tuple(folder.resolve() for folder in self.trusted_task_folders if folder.is_dir())
