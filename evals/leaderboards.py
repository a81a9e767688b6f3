"""Test sets by which models are ranked in public: who searches on one can no longer quote it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from evals.suite import Split
from evals.task_files import TaskConfig


@dataclass(frozen=True, slots=True)
class Leaderboard:
    """A public ranking, and the dataset splits that it is made on."""

    name: str
    splits: frozenset[str]


def _of(name: str, splits: str, *datasets: str) -> dict[str, Leaderboard]:
    return dict.fromkeys(datasets, Leaderboard(name, frozenset(splits.split())))


_FIRST, _SECOND = "the Open LLM Leaderboard", "the Open LLM Leaderboard 2"
# By name of the dataset without its owner, in lower case, so that copies are known as well.
_BY_DATASET: Mapping[str, Leaderboard] = {
    **_of(_FIRST, "test", "mmlu", "mmlu_no_train", "leaderboard_mmlu"),
    **_of(_FIRST, "test", "gsm8k", "gsm8k-platinum", "ai2_arc"),
    **_of(_FIRST, "validation test", "hellaswag", "winogrande", "truthful_qa"),
    **_of(_SECOND, "train", "ifeval", "instruction-following-eval", "gpqa"),
    **_of(_SECOND, "test", "bbh", "mmlu-pro", "math-lighteval", "hendrycks_math", "math"),
    **_of(_SECOND, "murder_mysteries object_placements team_allocation", "musr"),
    **_of("code leaderboards", "test", "openai_humaneval", "mbpp", "humanevalplus", "mbppplus"),
}


def ranked_by(config: TaskConfig) -> str | None:
    """Why a task is refused: it would search or select on a leaderboard's test set.

    To report on one is what it is for.
    """
    dataset = (config.dataset_path or "").rpartition("/")[2].lower()
    board = _BY_DATASET.get(dataset)
    own = config.splits
    used = {own[Split.SEARCH], own[Split.SELECT]} if own else {config.evaluated_split}
    if board is None or not used & board.splits:
        return None
    split = ", ".join(sorted(str(name) for name in used & board.splits))
    return (
        f"the {split} split of {config.dataset_path} is what {board.name} ranks models by; a merge"
        " that was searched on it can no longer be compared there. Search on a training or"
        " validation split (metadata: splits: in a task file of your own), or say"
        " allow_leaderboards: true"
    )
