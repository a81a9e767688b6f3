"""A Hub on the loopback interface, as far as a download needs one, and a script that uses it.

Run as ``python -m tests.api.fake_hub FOLDER ID REVISION ALLOW``, with ``HF_HOME``, for what
huggingface_hub talks to is fixed when it is imported.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import unquote, urlsplit

COMMIT = "c0ffee" * 6 + "c0ff"


def serve(folder: Path, repository: str) -> ThreadingHTTPServer:
    """One repository with one commit: the files of a folder."""
    names = sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            path = unquote(urlsplit(self.path).path)
            if path.startswith(f"/api/models/{repository}/tree/"):
                entries = [{"type": "file", "path": name, "oid": "0" * 40} for name in names]
                sizes = [{"size": (folder / name).stat().st_size} for name in names]
                rows = [entry | size for entry, size in zip(entries, sizes, strict=True)]
                self._answer(200, json.dumps(rows).encode())
            elif path.startswith(f"/api/models/{repository}"):
                siblings = [{"rfilename": name} for name in names]
                body = json.dumps({"id": repository, "sha": COMMIT, "siblings": siblings}).encode()
                self._answer(200, body)
            elif path.startswith(f"/{repository}/resolve/"):
                self._answer(200, (folder / path.split("/", 5)[5]).read_bytes())
            else:
                self._answer(404, b"{}")

        def _answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    return server


def main(folder: str, repository: str, revision: str, allow: str) -> None:
    server = serve(Path(folder), repository)
    os.environ["HF_ENDPOINT"] = f"http://127.0.0.1:{server.server_port}"
    os.environ["HF_HUB_OFFLINE"] = "0"

    from api.hub import file_hashes, locate
    from search.problems import Invalid

    try:
        found = locate(repository, revision, "base.hub", allow=allow.split(","))
        answer = {"folder": str(found), "hashes": file_hashes(found)}
    except Invalid as invalid:
        answer = {"problem": invalid.problems[0].message}
    sys.stdout.write("\n" + json.dumps(answer) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
