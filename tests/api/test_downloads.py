"""Checkpoints over HTTP: whole, in parts, resumed, as a tar; and nothing but checkpoints."""

import hashlib
import io
import tarfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api.artifacts import Artifacts, Missing, Publishing, artifact_digest, tar_size
from api.store import Store
from evals.suite import Split, Suite
from search.recipe import mixture
from tests.analytic import AnalyticFleet, submission
from tests.serving import FILES, WritingFleet, problem_of, recorded, stored, write_files
from workers.messages import Export, Exported, Job, Rejected

WEIGHTS = "model.safetensors"
CONTENT = FILES[WEIGHTS]
ETAG = f'"{hashlib.sha256(CONTENT).hexdigest()}"'


@pytest.fixture
def path(store: Store, artifacts: Artifacts) -> str:
    return stored(store, artifacts, recorded(store, 6))


def get(client: TestClient, path: str, **headers: str) -> Any:
    return client.get(
        f"{path}/files/{WEIGHTS}",
        headers={name.replace("_", "-"): value for name, value in headers.items()},
    )


def test_a_file_is_what_the_manifest_says(client: TestClient, path: str) -> None:
    files = client.get(path).json()["files"]
    assert set(files) == set(FILES)
    for name, facts in files.items():
        answer = client.get(f"{path}/files/{name}")
        assert answer.content == FILES[name]
        assert hashlib.sha256(answer.content).hexdigest() == facts["sha256"]
        assert int(answer.headers["content-length"]) == facts["size_bytes"]
        assert answer.headers["etag"] == f'"{facts["sha256"]}"'


def test_head_tells_all_but_the_content(client: TestClient, path: str) -> None:
    answer = client.head(f"{path}/files/{WEIGHTS}")
    assert answer.status_code == 200
    assert answer.content == b""
    assert int(answer.headers["content-length"]) == len(CONTENT)
    assert answer.headers["etag"] == ETAG
    assert answer.headers["accept-ranges"] == "bytes"


@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=100-199", 100, 200),
        ("bytes=100-", 100, 10240),
        ("bytes=-100", 10140, 10240),
        ("bytes=10239-99999", 10239, 10240),
        ("bytes=-99999", 0, 10240),
    ],
)
def test_a_range_is_a_part(
    client: TestClient, path: str, asked: str, start: int, stop: int
) -> None:
    for answer in (get(client, path, range=asked), get(client, path, range=asked, if_range=ETAG)):
        assert answer.status_code == 206
        assert answer.content == CONTENT[start:stop]
        assert answer.headers["content-range"] == f"bytes {start}-{stop - 1}/10240"
        assert int(answer.headers["content-length"]) == stop - start


@pytest.mark.parametrize("asked", ["bytes=10240-", "bytes=99999-100000", "bytes=-0"])
def test_a_range_beyond_the_end_is_a_problem(client: TestClient, path: str, asked: str) -> None:
    answer = get(client, path, range=asked)
    assert answer.status_code == 416
    assert answer.headers["content-range"] == "bytes */10240"
    problem_of(answer)


@pytest.mark.parametrize(
    "headers",
    [
        {"range": "bytes=0-9", "if_range": '"other"'},
        {"range": "bytes=0-9", "if_range": f"W/{ETAG}"},
        {"range": "bytes=0-9,20-29"},
        {"range": "bytes=" + ",".join(f"{i}-{i}" for i in range(150))},
        {"range": "lines=0-9"},
        {"range": "bytes=9-0"},
        {"range": "bytes=-"},
        {"range": "bytes=a-b"},
    ],
)
def test_what_is_not_one_valid_range_gives_the_whole_file(
    client: TestClient, path: str, headers: dict[str, str]
) -> None:
    answer = get(client, path, **headers)
    assert answer.status_code == 200
    assert answer.content == CONTENT


def test_a_known_file_is_not_sent_again(client: TestClient, path: str) -> None:
    assert get(client, path, if_none_match=ETAG).status_code == 304
    assert get(client, path, if_none_match='"other"').status_code == 200


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.integers(0, len(CONTENT)), max_size=5))
def test_parts_put_together_are_the_file(client: TestClient, path: str, cuts: list[int]) -> None:
    edges = sorted({0, len(CONTENT), *cuts})
    parts = [
        get(client, path, range=f"bytes={start}-{stop - 1}").content
        for start, stop in pairwise(edges)
    ]
    assert b"".join(parts) == CONTENT


def test_the_tar_is_as_long_as_announced(client: TestClient, path: str) -> None:
    answer = client.get(f"{path}.tar")
    assert len(answer.content) == int(answer.headers["content-length"])
    with tarfile.open(fileobj=io.BytesIO(answer.content)) as archive:
        found = {
            member.name: archive.extractfile(member).read()  # type: ignore[union-attr]  # files only
            for member in archive.getmembers()
        }
    assert found == {f"analytic-3/{name}": content for name, content in FILES.items()}
    assert client.get(f"{path}.tar").content == answer.content
    head = client.head(f"{path}.tar")
    assert head.headers["content-length"] == answer.headers["content-length"]
    assert head.headers["etag"] == answer.headers["etag"]


def test_a_tar_may_hold_files_beyond_eight_gib() -> None:
    size = tar_size({"model.safetensors": ("0" * 64, 9 * 2**30)}, "x")
    assert size == 512 + 9 * 2**30 + 1024


def test_files_that_are_gone_are_a_problem(
    client: TestClient, artifacts: Artifacts, store: Store, path: str
) -> None:
    search_id = path.split("/")[3]
    entry = store.candidate(search_id, 3)
    assert entry is not None
    (artifacts.staging(artifact_digest(search_id, entry.digest)) / WEIGHTS).unlink()
    for address in (f"{path}/files/{WEIGHTS}", f"{path}.tar"):
        answer = client.get(address)
        assert answer.status_code == 410
        problem_of(answer)
    assert client.post(path).json()["state"] == "requested"


def test_a_stored_checkpoint_is_not_made_again(client: TestClient, path: str) -> None:
    """The control."""
    assert client.post(path).json()["state"] == "stored"


names = st.one_of(
    st.text(min_size=1, max_size=40),
    st.lists(
        st.sampled_from(["..", ".", "/", "%2e%2e", "\\", "\0", "etc", "passwd"]), min_size=1
    ).map("".join),
    st.sampled_from(["../secret", "..%2fsecret", "/etc/passwd", ".", "..", f"{WEIGHTS}/", "con"]),
)


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=names)
def test_no_name_leads_out_of_the_checkpoint(
    client: TestClient, artifacts: Artifacts, tmp_path: Path, path: str, name: str
) -> None:
    (tmp_path / "artifacts" / "secret").write_text("do not tell")
    encoded = "".join(f"%{byte:02x}" for byte in name.encode("utf-8", "surrogatepass"))
    answer = client.get(f"{path}/files/{encoded}")
    assert answer.status_code == 404 or name in FILES
    assert "do not tell" not in answer.text
    if name not in FILES:
        problem_of(answer)
    with pytest.raises(Missing):
        artifacts.staging(name)


def test_a_manifest_cannot_name_files_elsewhere(artifacts: Artifacts) -> None:
    """Even if the log were tampered with."""
    digest = "0" * 64
    write_files(artifacts.staging(digest))
    for name in ("../x", "a/b", "", ".", "..", ".hidden", "x" * 97, "a\0"):
        with pytest.raises(Missing):
            list(artifacts.read(digest, name, 0, 1))


def test_a_remote_store_gets_what_was_exported(tmp_path: Path) -> None:
    """fsspec's store in memory stands for an object store."""
    remote = Artifacts("memory://checkpoints", staging=tmp_path / "staging")
    digest = artifact_digest("search", "recipe")
    folder = remote.staging(digest)
    facts = write_files(folder)
    remote.publish(digest, facts)
    assert not folder.exists()
    assert remote.holds(digest, facts)
    assert b"".join(remote.read(digest, WEIGHTS, 10, 300)) == CONTENT[10:300]
    fsspec.filesystem("memory").rm(f"/checkpoints/{digest}/{WEIGHTS}")
    assert not remote.holds(digest, facts)


def test_exports_are_published_before_they_are_reported(tmp_path: Path) -> None:
    class Writing(AnalyticFleet):
        def submit(self, job: Job) -> None:
            if isinstance(job.work, Export) and job.id == "whole":
                (Path(job.work.destination)).mkdir(parents=True)
                (Path(job.work.destination) / WEIGHTS).write_bytes(b"x" * 288)
            super().submit(job)

    remote = Artifacts("memory://published", staging=tmp_path / "staging")
    fleet = Publishing(Writing(), remote)
    given_ = submission()
    results = {}
    for name in ("whole", "lost"):
        digest = artifact_digest(name, "recipe")
        work = Export(
            mixture(("add",), (1.0,)),
            Suite(given_.spec.objectives, Split.REPORT),
            str(remote.staging(digest)),
        )
        fleet.submit(Job(name, given_.zoo, work))
        report = fleet.next_report(1.0)
        assert report is not None
        results[name] = report.result
    assert isinstance(results["whole"], Exported)
    assert isinstance(results["lost"], Rejected)
    assert "could not be stored" in results["lost"].reason


def test_a_store_that_fails_in_its_own_way_ends_nothing(tmp_path: Path) -> None:
    class NoCredentials(Exception):
        pass

    class Locked(fsspec.AbstractFileSystem):  # type: ignore[misc]  # fsspec has no types
        protocol = "locked"

        def put_file(self, lpath: str, rpath: str, **_: Any) -> None:
            raise NoCredentials("say who you are")

    fsspec.register_implementation("locked", Locked, clobber=True)
    locked = Artifacts("locked://checkpoints", staging=tmp_path / "staging")
    fleet = Publishing(WritingFleet(), locked)
    given_ = submission()
    destination = str(locked.staging(artifact_digest("search", "recipe")))
    suite = Suite(given_.spec.objectives, Split.REPORT)
    work = Export(mixture(("add",), (1.0,)), suite, destination)
    fleet.submit(Job("export", given_.zoo, work))
    report = fleet.next_report(1.0)
    assert report is not None
    assert isinstance(report.result, Rejected)
    assert report.result.reason.endswith("NoCredentials: say who you are")
