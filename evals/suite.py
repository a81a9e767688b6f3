"""What a candidate is scored on."""

from __future__ import annotations

from dataclasses import dataclass, field

from evals import weight_metrics
from evals.batching import Batching
from search.outcome import Split as Split
from search.spec import Evaluation, Objective


@dataclass(frozen=True, slots=True)
class Suite:
    """What is asked, of which examples, how, and where task YAML is found.

    Args:
        objectives: what has a score.
        split: which examples; None for all that lm-eval itself would score.
        folders: searched before lm-eval's own tasks.
        limit: only so many first examples of every task; a share of them below 1, as in lm-eval.
        trusted: the folders whose tasks may bring Python, because the operator put them there.
        evaluation: how all tasks are asked.
        seed: of the draw that divides a task's examples and puts them in order.
        digests: (task, digest) of the examples that a search began with (see ``evals.drawing``);
            other examples are refused.
        batching: of the forward passes; the usual of the worker when None. All that score for one
            search need the same, or sums differ in their last bits.
    """

    objectives: tuple[Objective, ...]
    split: Split | None
    folders: tuple[str, ...] = ()
    limit: float | None = None
    trusted: tuple[str, ...] = ()
    evaluation: Evaluation = field(default_factory=Evaluation)
    seed: int = 0
    digests: tuple[tuple[str, str], ...] = ()
    batching: Batching | None = None

    @property
    def asked(self) -> tuple[Objective, ...]:
        """The objectives that something is asked for; of others the weights tell."""
        return tuple(one for one in self.objectives if one.task != weight_metrics.TASK)


@dataclass(frozen=True, slots=True)
class Draw:
    """The examples of one split of a task, as a search began with them.

    ``digest`` is a sha256 in hex of the examples in their order, and of how they are asked.
    """

    task: str
    split: Split
    count: int
    digest: str
