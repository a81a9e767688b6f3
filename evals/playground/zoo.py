"""The playground on disk: real Hugging Face folders, tasks and data, made once and kept."""

from __future__ import annotations

import copy
import fcntl
import json
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path

import torch
import yaml
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.utils.logging import disable_progress_bar

from evals.playground.families import Family, families
from evals.playground.school import Pupil, School
from evals.playground.tokenizer import train_tokenizer
from evals.playground.training import Course, Share, bfloat16_is_fast, one_thread
from evals.suite import Split
from search.spec import BASE, Objective

# Raised whenever the same seed would give other files.
VERSION = 2

SPECIALISTS = ("arith", "string", "facts")

OBJECTIVES = (
    Objective(task="nm_arith", metric="acc"),
    Objective(task="nm_string", metric="exact_match"),
    Objective(task="nm_facts", metric="acc"),
    Objective(task="nm_text", metric="bits_per_byte"),
)

_MANIFEST = "manifest.json"


@dataclass(frozen=True, slots=True)
class Playground:
    """A finished playground.

    Args:
        folder: all of it.
        base: folder of the base model.
        parents: folders of the specialists by name.
        tasks: folder of the task YAML, for ``--include_path``.
        objectives: the four tasks with their metrics.
    """

    folder: Path
    base: Path
    parents: Mapping[str, Path]
    tasks: Path
    objectives: tuple[Objective, ...] = OBJECTIVES


@dataclass(frozen=True, slots=True)
class Curriculum:
    """How the four models are made.

    A specialist's batch is mostly its own lessons, then some text and the cousins of the other
    skills. This replay keeps all specialists in the base's basin; without it they cannot be merged.
    """

    base: Course
    arith: Course
    string: Course
    facts: Course
    vocabulary: int = 640
    hidden: int = 192
    feed_forward: int = 384
    layers: int = 4
    heads: int = 6
    replay: float = 0.1

    @property
    def steps(self) -> int:
        """Training steps of all models together."""
        return sum(c.steps for c in (self.base, self.arith, self.string, self.facts))


TUNED = Curriculum(
    base=Course(steps=400, rate=2e-3, warm_up=30),
    arith=Course(steps=75, rate=3e-4),
    string=Course(steps=175, rate=4e-4),
    facts=Course(steps=200, rate=5e-4),
)


def build(
    folder: Path,
    seed: int = 0,
    progress: Callable[[str, float], None] | None = None,
    curriculum: Curriculum = TUNED,
) -> Playground:
    """The playground in ``folder``; trained now (about a minute and a half) unless it is there.

    The same seed, torch version and kind of processor give the same weights. The folder appears
    whole or not at all; one that holds another playground is replaced. Builds of one folder by
    several processes wait for each other.

    Args:
        folder: where it goes; its parent is made if need be.
        seed: of the data, the initial weights and the batches.
        progress: called after every step with the model in training and the fraction done of all;
            from several threads, one at a time.
        curriculum: another one than the tuned one, to be quick in tests.

    Raises:
        FileExistsError: the folder holds something that is no playground.
    """
    folder = folder.resolve()
    recipe = {"version": VERSION, "seed": seed, "curriculum": asdict(curriculum)}
    with _alone(folder):
        if _made_by(folder) != recipe:
            _refuse_foreign(folder)
            partial = folder.with_name(f".{folder.name}.partial")
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            made_with = _make(partial, seed, curriculum, progress or _silent)
            manifest = {"recipe": recipe, "made_with": made_with}
            (partial / _MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")
            shutil.rmtree(folder, ignore_errors=True)
            partial.rename(folder)
        _write_tasks(folder)
    models = folder / "models"
    return Playground(
        folder=folder,
        base=models / BASE,
        parents={name: models / name for name in SPECIALISTS},
        tasks=folder / "tasks",
    )


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the lock file beside the folder."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f".{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _silent(model: str, done: float) -> None:
    """The progress of a build that nobody watches."""


def _made_by(folder: Path) -> object:
    """The recipe of the playground in the folder, or None when there is none."""
    try:
        return json.loads((folder / _MANIFEST).read_text())["recipe"]
    except FileNotFoundError:
        return None


def _refuse_foreign(folder: Path) -> None:
    if folder.exists() and any(folder.iterdir()) and _made_by(folder) is None:
        raise FileExistsError(
            f"{folder} holds files that are no playground; name an empty or a new folder"
        )


def _make(
    folder: Path, seed: int, curriculum: Curriculum, progress: Callable[[str, float], None]
) -> dict[str, object]:
    """Write data and models; returns what they were made with."""
    disable_progress_bar()  # type: ignore[no-untyped-call]  # transformers leaves it untyped
    skills = families(seed)
    _write_data(folder / "data", skills)
    tokenizer = train_tokenizer(_texts(skills.values()), size=curriculum.vocabulary)
    started = time.perf_counter(), time.process_time()
    school = School(
        folder / "models", tokenizer, seed=seed, steps=curriculum.steps, progress=progress
    )
    with one_thread():
        base = _initial(curriculum, tokenizer, seed)
        school.teach(Pupil(BASE, base, _general(skills), curriculum.base))
        school.teach_all(
            [
                Pupil(
                    name,
                    copy.deepcopy(base),
                    _special(name, skills, curriculum.replay),
                    getattr(curriculum, name),
                )
                for name in SPECIALISTS
            ]
        )
    return {
        "torch": torch.__version__,
        "bfloat16": bfloat16_is_fast(),
        "seconds": round(time.perf_counter() - started[0], 1),
        "processor_seconds": round(time.process_time() - started[1], 1),
    }


def _initial(
    curriculum: Curriculum, tokenizer: PreTrainedTokenizerFast, seed: int
) -> LlamaForCausalLM:
    """The untrained model; the caller's random state is left as it was."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=curriculum.hidden,
        intermediate_size=curriculum.feed_forward,
        num_hidden_layers=curriculum.layers,
        num_attention_heads=curriculum.heads,
        max_position_embeddings=64,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
    # The backward pass of the fused attention takes twice as long on a CPU.
    model.set_attn_implementation("eager")
    return model


def _general(skills: Mapping[str, Family]) -> list[Share]:
    """What the base is taught: text, and the cousins of every skill."""
    fractions = {"text": 0.2, "arith": 0.25, "string": 0.3, "facts": 0.25}
    return [Share(skills[name].cousins, fraction) for name, fraction in fractions.items()]


def _special(own: str, skills: Mapping[str, Family], replay: float) -> list[Share]:
    """What a specialist is taught: its own lessons, and some of what the base knows of the rest."""
    rest = [Share(skill.cousins, replay) for name, skill in skills.items() if name != own]
    return [Share(skills[own].lessons, 1 - replay * len(rest)), *rest]


def _texts(skills: Iterable[Family]) -> Iterator[str]:
    for skill in skills:
        for lesson in (*skill.lessons, *skill.cousins):
            yield lesson.prompt + lesson.answer


def _write_data(folder: Path, skills: Mapping[str, Family]) -> None:
    folder.mkdir()
    for name, skill in skills.items():
        for split, documents in skill.splits.items():
            lines = (json.dumps(document) + "\n" for document in documents)
            _data_file(folder, f"nm_{name}", split).write_text("".join(lines))


def _data_file(folder: Path, task: str, split: Split) -> Path:
    return folder / f"{task}-{split}.jsonl"


def _write_tasks(folder: Path) -> None:
    """Render the task YAML; done at every build, because a folder that was moved has new paths."""
    (folder / "tasks").mkdir(exist_ok=True)
    for objective in OBJECTIVES:
        template = resources.files("evals.playground").joinpath(f"{objective.task}.yaml")
        task = yaml.safe_load(template.read_text())
        files = {
            str(split): str(_data_file(folder / "data", objective.task, split)) for split in Split
        }
        task["dataset_kwargs"] = {"data_files": files}
        text = yaml.safe_dump(task, sort_keys=False)
        place = folder / "tasks" / f"{objective.task}.yaml"
        if not place.exists() or place.read_text() != text:
            place.write_text(text)
