"""What a worker keeps between jobs: the open parents, one model, and tokenized requests."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.initialization import no_init_weights
from transformers.utils import GENERATION_CONFIG_NAME

from evals.evaluator import Evaluator
from evals.requests import Unscorable
from evals.suite import Suite
from search.problems import Invalid, Problem
from search.recipe import mixture
from workers.checkpoints.parents import Parents
from workers.gate import Gate
from workers.materializer import Materializer
from workers.messages import Zoo

Key = TypeVar("Key")
Kept = TypeVar("Kept")


class Recent(Generic[Key, Kept]):
    """The most recently used things, made on demand; the longest unused one makes room.

    Args:
        make: from a key.
        capacity: how many are kept.
    """

    def __init__(self, make: Callable[[Key], Kept], *, capacity: int) -> None:
        self._make = make
        self._capacity = capacity
        self._kept: OrderedDict[Key, Kept] = OrderedDict()

    def __getitem__(self, key: Key) -> Kept:
        if key not in self._kept:
            while len(self._kept) >= self._capacity:  # before making: two models may not fit
                self._kept.popitem(last=False)
            self._kept[key] = self._make(key)
        self._kept.move_to_end(key)
        return self._kept[key]

    def clear(self) -> None:
        """Let go of everything."""
        self._kept.clear()


Stamp = tuple[tuple[str, int, int, int], ...]


def stamp(folders: Iterable[str], *patterns: str) -> Stamp:
    """Tells whether files below some folders are still what they were: inode, size, time of change.

    Whoever mends a model or a task and tries again finds no worker that remembers the old one.
    """
    found = (Path(folder).rglob(pattern) for folder in folders for pattern in patterns)
    files = sorted(file for files in found for file in files)
    states = ((str(file), file.stat()) for file in files)
    return tuple((name, s.st_ino, s.st_size, s.st_mtime_ns) for name, s in states)


class Resident:
    """One zoo, ready to be merged and scored: the model is built once and written over again.

    Args:
        zoo: folders and dtype.
        device: where the model lives, as torch spells it.
        suites: how many suites' tokenized requests are kept.
    """

    def __init__(self, zoo: Zoo, *, device: str, suites: int = 4) -> None:
        self.zoo = zoo
        self.device = device
        self.parents = Parents(zoo, device)
        self.model = empty_model(Path(zoo.base), zoo.dtype, device)
        self.materializer = materializer = Materializer(self.parents, self.model)
        # Not a method of ours: the cycle would keep an evicted model until some garbage collection.
        tokenizer = load_tokenizer(Path(zoo.base))
        make = partial(_evaluator, self.model, self.materializer, tokenizer, device)
        self._evaluators = Recent[tuple[Suite, Stamp], Evaluator](
            lambda key: _with_references(make(key[0]), materializer), capacity=suites
        )
        names = tuple(name for name, _ in zoo.parents)
        admit = partial(Gate, self.materializer, parents=names)
        self._gates = Recent[Evaluator, Gate](lambda key: admit(evaluator=key), capacity=suites)

    def evaluator(self, suite: Suite) -> Evaluator:
        """Scores the resident model; made anew when a task file has changed.

        The first call writes over the resident model where objectives compare with other models.
        """
        return self._evaluators[suite, stamp(suite.folders, "*.yaml", "*.py")]

    def gate(self, suite: Suite) -> Gate:
        """Refuses broken merges; the first call writes over the resident model."""
        return self._gates[self.evaluator(suite)]


def _evaluator(
    model: PreTrainedModel,
    materializer: Materializer,
    tokenizer: PreTrainedTokenizerBase,
    device: str,
    suite: Suite,
) -> Evaluator:
    """How requests are batched must not depend on the path that the model follows just now."""
    with materializer.own_layers():
        return Evaluator(model, tokenizer, suite, device)


def _with_references(evaluator: Evaluator, materializer: Materializer) -> Evaluator:
    """Show an evaluator the models that it compares others with, one after the other."""
    for name in evaluator.references:
        materializer.materialize(mixture((name,), (1.0,)))
        try:
            evaluator.learn(name)
        except Unscorable as error:
            message = f"a divergence is taken to it, but {error}"
            raise Invalid([Problem(field=name, message=message)]) from error
    return evaluator


def empty_model(folder: Path, dtype: str, device: str) -> PreTrainedModel:
    """The architecture of a folder with right buffers, tied weights, and no weights yet.

    Never runs code that lies beside the weights.
    """
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    build: Any = AutoModelForCausalLM.from_config
    with no_init_weights():
        model = build(config, dtype=getattr(torch, dtype), trust_remote_code=False)
    model.tie_weights()
    if (folder / GENERATION_CONFIG_NAME).is_file():
        # Where an answer ends and what is held against repetition are the checkpoint's to say.
        model.generation_config = GenerationConfig.from_pretrained(folder, local_files_only=True)
    model.requires_grad_(False)
    moved: PreTrainedModel = model.eval().to(device)
    return moved


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a checkpoint folder; never runs code that lies beside it."""
    return AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
