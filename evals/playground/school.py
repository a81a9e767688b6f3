"""The models of one playground, trained and saved: the base, then the specialists side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Lock

from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from evals.playground.training import Course, Share, train

_SIDE_BY_SIDE = 2


@dataclass(frozen=True, slots=True)
class Pupil:
    """A model and what it is about to be taught, under the name of its folder."""

    name: str
    model: LlamaForCausalLM
    mixture: Sequence[Share]
    course: Course


class _Abandoned(Exception):
    """Another training failed; this one need not go on."""


class School:
    """Trains pupils and saves them.

    Every training computes with one thread of its own: the weights do not depend on how many run
    at a time, and a busy machine slows them down in proportion and no more.

    Args:
        folder: a folder per model is made in it.
        tokenizer: of all models, saved with each.
        seed: of the batches; every pupil has a stream of its own.
        steps: of all trainings together.
        progress: called after every step with the name of the model and the fraction done of all
            steps; from several threads, one at a time.
    """

    def __init__(
        self,
        folder: Path,
        tokenizer: PreTrainedTokenizerFast,
        *,
        seed: int,
        steps: int,
        progress: Callable[[str, float], None],
    ) -> None:
        self._folder, self._tokenizer = folder, tokenizer
        self._seed, self._steps, self._progress = seed, steps, progress
        self._done = 0
        self._lock, self._abandoned = Lock(), Event()

    def teach(self, pupil: Pupil) -> None:
        """Train one pupil and save it."""
        stream = [self._seed, *pupil.name.encode()]
        train(
            pupil.model,
            self._tokenizer,
            pupil.mixture,
            pupil.course,
            seed=stream,
            progress=lambda: self._step(pupil.name),
        )
        pupil.model.save_pretrained(self._folder / pupil.name)
        self._tokenizer.save_pretrained(self._folder / pupil.name)

    def teach_all(self, pupils: Sequence[Pupil]) -> None:
        """Train several pupils, two at a time; the first failure ends them all."""
        with ThreadPoolExecutor(_SIDE_BY_SIDE, thread_name_prefix="school") as pool:
            futures = [pool.submit(self.teach, pupil) for pupil in pupils]
            try:
                done, _ = wait(futures, return_when=FIRST_EXCEPTION)
            finally:
                if not all(future.done() for future in futures):
                    self._abandoned.set()
        for future in done:
            future.result()

    def _step(self, name: str) -> None:
        if self._abandoned.is_set():
            raise _Abandoned
        with self._lock:
            self._done += 1
            self._progress(name, self._done / self._steps)
