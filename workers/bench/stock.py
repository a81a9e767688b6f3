"""Stock lm-eval on a resident model: what our scoring is compared with."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from search.recipe import Recipe
from search.spec import Objective
from workers.messages import Zoo
from workers.resident import Resident, load_tokenizer


class Stock:
    """``simple_evaluate`` again and again, on a model that is merged by us.

    Args:
        zoo: whose base has a tokenizer.
        tasks: folder of task files.
    """

    def __init__(self, zoo: Zoo, tasks: Path) -> None:
        from lm_eval.tasks import TaskManager

        logging.disable(logging.WARNING)
        self._resident = Resident(zoo, device="cpu")
        self._tokenizer = load_tokenizer(Path(zoo.base))
        self._manager = TaskManager(include_path=str(tasks), include_defaults=False)

    def merge(self, recipe: Recipe) -> None:
        """Write the candidate into the model."""
        self._resident.materializer.materialize(recipe)

    def score(self, objective: Objective, batch_size: int) -> tuple[float, int]:
        """The metric, without its standard error, and of how many examples it is."""
        import lm_eval
        from lm_eval.models.huggingface import HFLM

        lm: Any = HFLM(
            pretrained=self._resident.model,
            tokenizer=self._tokenizer,
            device="cpu",
            batch_size=batch_size,
        )
        found: Any = lm_eval.simple_evaluate(
            model=lm, tasks=[objective.task], task_manager=self._manager, bootstrap_iters=0
        )
        value = found["results"][objective.task][f"{objective.metric},none"]
        return float(value), int(found["n-samples"][objective.task]["effective"])
