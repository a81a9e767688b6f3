"""A resident model in, scores out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from evals import harness
from evals.climb import Climb, Ladder
from evals.engine import Engine
from evals.engine.stems import Stems
from evals.fingerprint import Fingerprint, fingerprint
from evals.requests import Response, Unscorable
from evals.sanity import Examination, Vitals
from evals.suite import Split, Suite
from search.outcome import Score, Scores
from search.racing import Race, rungs, scored

# Of so many sets of weights the answers are kept, for when more is asked of them.
_CLIMBS = 64


class Evaluator:
    """Scores the model as it is now, as often as its weights change.

    Tasks are loaded and requests tokenized here, once; in rungs as well, when the first candidate
    comes that is scored in such.

    Args:
        model: stays where it is; its weights may be written over between two scorings.
        tokenizer: that the model was trained with.
        suite: what to score it on.
        device: where the model lives, as torch spells it.

    Attributes:
        forward_s: seconds that the last scoring, or look, spent in the model.
        fingerprint: of the engine.
        left_early: whether the last candidate was behind in its race before all examples.
        higher_is_better: by objective key, of the metric's own sign.

    Raises:
        search.problems.Invalid: when a task cannot be used with this model.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        suite: Suite,
        device: str = "cpu",
    ) -> None:
        self.forward_s = 0.0
        self.left_early = False
        self._objectives = suite.asked
        self._races = suite.split is Split.SEARCH and suite.asked == suite.objectives
        self._split = suite.split
        self._loaded = harness.load(suite, tokenizer)
        batching = suite.batching
        tokens = None if batching is None else batching.tokens
        self._engine = Engine(model, tokenizer, device, token_limit=tokens)
        self._plan = self._engine.prepare(self._loaded.requests)
        self._ladder = Ladder(self._loaded, self._engine)
        self._climbs: dict[str, Climb] = {}
        self._examination = Examination(self._engine, tokenizer, self._loaded.requests)
        self.fingerprint: Fingerprint = fingerprint(device, self._engine.plan_fingerprint)
        self._comparisons = self._loaded.comparisons()
        self.higher_is_better: Mapping[str, bool] = {
            objective.key: self._loaded.higher_is_better(objective) for objective in suite.asked
        }

    @property
    def references(self) -> tuple[str, ...]:
        """Names of the models that others are compared with; they must be learned before."""
        return tuple(self._comparisons)

    def learn(self, reference: str) -> None:
        """Take the model as it is now for one of the references.

        Raises:
            Unscorable: when its outputs are not finite.
        """
        self._engine.learn(self._comparisons[reference])

    def score(self, race: Race | None = None) -> Scores:
        """Scores by objective that is asked for, of all examples or of those seen in a lost race.

        A candidate that left early has the scores that all examples can be expected to give.

        Raises:
            Unscorable: when any of them is not finite.
        """
        self.left_early = False
        if race is None:
            responses = self._engine.run(self._plan)
            self.forward_s = self._engine.forward_s
            return self._scores(self._loaded, responses)
        climb, stems = Climb(self._ladder), Stems()
        found, self.left_early = scored(
            race, self._race_ends, lambda count: self._scores(*climb.first(count, stems))
        )
        self.forward_s = climb.forward_s
        return found

    def score_first(self, rungs: Sequence[int], *, of: str) -> Scores:
        """Scores by objective of the first examples of every task, as many as the last rung says.

        Whoever comes again goes on from the rung where it was, if that was here and not long ago;
        scores are the same to the bit either way.

        Args:
            rungs: of how many first examples everyone was to be asked, one time after the other.
            of: what weights these are; equal for equal ones only.

        Raises:
            Unscorable: when any of them is not finite.
        """
        self.left_early = False
        climb = self._climbs.pop(of, None)
        if climb is None or climb.climbed >= rungs[-1]:
            climb = Climb(self._ladder)
        climb.forward_s = 0.0
        for end in rungs:
            if end > climb.climbed:
                found = climb.first(end, Stems())
        self.forward_s = climb.forward_s
        self._climbs[of] = climb
        while len(self._climbs) > _CLIMBS:
            del self._climbs[next(iter(self._climbs))]
        return self._scores(*found)

    def vitals(self) -> Vitals:
        """A short look at the model, before all of `score` is spent on it.

        Raises:
            Unscorable: when its outputs are not finite.
        """
        seen = self._examination.vitals()
        self.forward_s = self._engine.forward_s
        return seen

    def score_alone(self) -> Scores:
        """As `score`, of a model that is never asked about two examples at once.

        Slow, and in exact arithmetic equal to `score`.

        Raises:
            Unscorable: when any of them is not finite.
        """
        responses: list[Response] = []
        for task in self._loaded.tasks:
            for place in task.places:
                asked = task.requests[place.start : place.stop]
                responses += self._engine.run(self._engine.prepare(asked))
        return self._scores(self._loaded, responses)

    @cached_property
    def _race_ends(self) -> tuple[int, ...]:
        """One rung only where some metric does not move as the mean of its examples does.

        Nor does what the weights tell, which no example says more of.
        """
        longest = max(map(len, self._loaded.tasks))
        races = self._races and all(map(self._loaded.follows_its_examples, self._objectives))
        return rungs(longest) if races else (longest,)

    def _scores(self, loaded: harness.Loaded, responses: Sequence[Response]) -> Scores:
        measured = loaded.measure(responses, self._objectives)
        return {
            key: _score_of(key, result, self._split, higher=self.higher_is_better[key])
            for key, result in measured.items()
        }


def _score_of(key: str, measured: harness.Measured, split: Split | None, *, higher: bool) -> Score:
    """Higher is better from here on."""
    sign = 1.0 if higher else -1.0
    examples = (sign * measured.examples).astype(np.float32)
    if not np.isfinite(measured.value) or not np.isfinite(examples).all():
        raise Unscorable(f"{key} is not finite ({measured.value})")
    return Score(sign * measured.value, measured.stderr, len(examples), examples, split)
