"""mergekit beside us: the same merges in the same run, each in its own environment."""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import tempfile
import venv
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import astuple, dataclass
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from search.recipe import Recipe
from workers.bench import mergekit_loop
from workers.bench.merging import Workbench
from workers.bench.tables import columns
from workers.merging.merge_method import methods
from workers.messages import Zoo

RELEASE = "0.1.5"
METHODS = ("linear", "task_arithmetic", "ties", "dare_ties")
# The environment has the releases that we run with, so that only the loops differ.
_SAME = ("torch", "transformers", "safetensors", "numpy")
# What its evolutionary search scores with.
EVOLVE = ("lm_eval[hf]", "datasets")
_READY = ".ready"
_OURS = 3  # candidates of ours for each of theirs, which take far longer


@dataclass(frozen=True, slots=True)
class Beside:
    """What a candidate takes us, and what it takes mergekit's in-memory executor.

    Args:
        method: by name.
        ours_ms, theirs_ms: medians, after the first candidate.
        times_faster: the latter over the former.
    """

    method: str
    ours_ms: float
    theirs_ms: float
    times_faster: float


def beside_table(found: Iterable[Beside]) -> str:
    """As Markdown."""
    header = ("method", "ms", f"mergekit {RELEASE}, ms", "times faster")
    return columns(header, map(astuple, found))


class PeerFailed(RuntimeError):
    """mergekit could not be installed, or did not merge; the message is for the user to read."""


class Peer(AbstractContextManager["Peer"]):
    """A process that merges as it is told, and says how long it took.

    Args:
        command: starts it; see ``mergekit_loop`` for what it is told.
        base: folder of the base model.
        threads: it may use.
        more: of the first line.
    """

    def __init__(self, command: Sequence[str], *, base: str, threads: int, **more: str) -> None:
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed with the process
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        self.ask({"base": base, "threads": threads, **more})

    def seconds(self, configuration: dict[str, Any]) -> float:
        """How long it takes to merge what a configuration of mergekit describes.

        Raises:
            PeerFailed: it ended instead.
        """
        return float(self.ask(configuration)["seconds"])

    def ask(self, question: dict[str, Any]) -> dict[str, float]:
        """The answer to a line.

        Raises:
            PeerFailed: it ended instead.
        """
        questions, answers = self._process.stdin, self._process.stdout
        assert questions is not None  # noqa: S101 - it was started with both pipes
        assert answers is not None  # noqa: S101 - likewise
        with suppress(BrokenPipeError):  # then there will be no answer either
            questions.write(json.dumps(question) + "\n")
            questions.flush()
        answer = answers.readline()
        if not answer:
            self._process.wait()
            self._errors.seek(0)
            last = self._errors.read().strip().splitlines()[-1:]
            raise PeerFailed(f"mergekit ended instead of merging: {''.join(last)}")
        found: dict[str, float] = json.loads(answer)
        return found

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        with suppress(BrokenPipeError):  # what it was asked, and did not read
            self._process.communicate()
        self._errors.close()


def mergekit_command(folder: Path, more: Sequence[str] = ()) -> list[str]:
    """Starts mergekit in an environment below ``folder``, which is made unless it is there.

    Args:
        folder: of such environments.
        more: packages that it needs beside, in the releases that we have.

    Raises:
        PeerFailed: pip cannot install it.
    """
    same = (*_SAME, *more)
    releases = {name: version(name.partition("[")[0]).partition("+")[0] for name in same}
    kind = "mergekit-evolve" if more else "mergekit"
    place = folder / f"{kind}-{RELEASE}-torch-{releases['torch']}"
    python = place.absolute() / "bin" / "python"
    if not (place / _READY).is_file():
        shutil.rmtree(place, ignore_errors=True)
        venv.create(place, with_pip=True)
        wanted = [
            f"mergekit=={RELEASE}",
            *(f"{name}=={release}" for name, release in releases.items()),
        ]
        pip = [
            str(python),
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            *wanted,
        ]
        done = subprocess.run(pip, capture_output=True, text=True, check=False)
        if done.returncode:
            raise PeerFailed(f"mergekit cannot be installed:\n{done.stderr.strip()}")
        (place / _READY).touch()
    return [str(python), "-I", mergekit_loop.__file__]


def beside(
    zoo: Zoo, peer: Peer, names: Sequence[str] = METHODS, *, rounds: int = 3
) -> list[Beside]:
    """The same candidates by us and by mergekit, in turns.

    Args:
        zoo: no tokenizer is needed.
        peer: on the base of the zoo.
        names: of methods.
        rounds: that are timed, after the first candidates.
    """
    bench = Workbench(zoo)
    rng = np.random.default_rng(0)
    found = []
    for name in names:
        contender = bench.contender(name)
        ours, theirs = [], []
        for turn in range(rounds + 1):
            recipes = [contender.draw(rng) for _ in range(_OURS)]
            taken = [bench.merge_seconds(contender, recipe) for recipe in recipes]
            took = peer.seconds(configuration(recipes[-1], zoo))
            if turn:
                ours += taken
                theirs.append(took)
        mine, other = statistics.median(ours), statistics.median(theirs)
        found.append(Beside(name, mine * 1e3, other * 1e3, other / mine))
    return found


def configuration(recipe: Recipe, zoo: Zoo) -> dict[str, Any]:
    """What mergekit is asked for: as its evolutionary search would, in the dtype of the models.

    Args:
        recipe: of one block.
        zoo: where the models are.
    """
    method = methods[recipe.method]
    values = method.arguments(recipe.at(0), len(recipe.parents))
    folders = dict(zoo.parents)
    document: dict[str, Any] = {
        "merge_method": method.declaration.mergekit,
        "dtype": zoo.dtype,
        "models": [
            {
                "model": folders[parent],
                "parameters": {n: values[n][i] for n in ("weight", "density") if n in values},
            }
            for i, parent in enumerate(recipe.parents)
        ],
        "parameters": {n: values[n] for n in ("normalize", "lambda") if n in values},
    }
    if method.declaration.uses_base:
        document["base_model"] = zoo.base
    return document
