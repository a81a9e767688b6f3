"""The gate before the tasks: what is plainly broken is not worth an evaluation."""

from __future__ import annotations

from collections.abc import Iterator

from evals.evaluator import Evaluator
from evals.requests import Unscorable
from evals.sanity import Vitals, ailment
from search.recipe import mixture
from search.spec import BASE
from workers.materializer import Materializer
from workers.merging.merge_method import NotMergeable


class Gate:
    """Looks at a merge as it looked at the models that it was made from.

    These are materialized and looked at here, once; the model is none of them afterwards. All of it
    follows from the models and the suite, so every worker refuses the same merges.

    Args:
        materializer: of the resident model.
        evaluator: of the suite, for the resident model.
        parents: their names.
    """

    def __init__(
        self, materializer: Materializer, evaluator: Evaluator, parents: tuple[str, ...]
    ) -> None:
        def seen(name: str) -> Iterator[Vitals]:
            try:
                materializer.materialize(mixture((name,), (1.0,)))
                yield evaluator.vitals()
            except (NotMergeable, Unscorable):
                return  # says nothing about others

        self._evaluator = evaluator
        self._base = next(seen(BASE), None)
        self._parents = [vitals for name in parents for vitals in seen(name)]

    def check(self) -> None:
        """Let the model pass, as it is now.

        Raises:
            Unscorable: it is broken; the message says how.
        """
        reason = ailment(self._evaluator.vitals(), self._base, self._parents)
        if reason is not None:
            raise Unscorable(reason)
