"""A task of lm-eval, ready to be asked and measured."""

from __future__ import annotations

import copy
import functools
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate, islice, pairwise
from typing import Any

from evals.drawing import Content, digest
from evals.harness.aggregation import Measured, aggregated, follows_its_examples
from evals.harness.building import lm_eval_task, task_faults
from evals.harness.choices import Choices
from evals.harness.documents import Document, document_of
from evals.harness.examples import (
    ChatTemplate,
    Example,
    content_of,
    divergence_of,
    examples_of,
    request_of,
)
from evals.harness.spellings import OUTPUT_TOKENS, in_full, reference_of, spellings
from evals.requests import Answer, Divergence, Request, Response, Unscorable
from evals.suite import Suite
from evals.task_files import TaskFile
from search.problems import Invalid, Problem

# Distributions of a reference that are remembered for a task, in numbers: a gigabyte.
_REMEMBERED = 2**28
# Tokens of a text at most: what comes later says little that is new.
_COMPARED = 256


class Task:
    """A task of lm-eval on one split: what it asks, and what it makes of the answers.

    Built once; `measure` may be called for every candidate and remembers none.

    Args:
        task_file: of the task.
        suite: which examples, and how they are asked.
        template: of a chat, where there is to be one.
        width: how many tokens a text has.
        vocabulary: how many tokens there are.

    Attributes:
        name: as written in a spec.
        requests: for the model, in the order of the examples; of each, lm-eval's come first.
        metrics: every spelling of every metric -> whether higher is better.
        examples: documents with what is asked about each.
        lm_eval_task: whose rules these are.
    """

    def __init__(
        self,
        task_file: TaskFile,
        suite: Suite,
        template: ChatTemplate | None,
        width: Callable[[str], int],
        vocabulary: Callable[[], int],
    ) -> None:
        self.name = task_file.name
        self._width = width
        self._file = task_file
        self.metrics: Mapping[str, bool] = spellings(task_file)
        self._full = {spelling: in_full(task_file, spelling) for spelling in self.metrics}
        try:
            self.lm_eval_task = lm_eval_task(task_file, suite.split)
            self.examples: Sequence[Example] = examples_of(
                self.lm_eval_task, task_file, suite, template
            )
            _remember_documents(self.lm_eval_task, self.examples)
            fits = bool(self.examples) and Choices.fits(self.lm_eval_task, self.examples)
            self._choices = Choices(self.lm_eval_task, self.examples) if fits else None
        except task_faults() as error:
            what = next(iter(str(error).splitlines()), "no reason given")
            message = f"cannot be built from {task_file.path}: {type(error).__name__}: {what}"
            raise Invalid([Problem(field=self.name, message=message)]) from error
        if not self.examples:
            which = f"has no {suite.split} examples" if suite.split else "has no examples"
            raise Invalid([Problem(field=self.name, message=which)])
        self._instances = [instance for example in self.examples for instance in example.asked]
        metrics = (o.metric for o in suite.objectives if o.task == self.name)
        self._references = tuple(dict.fromkeys(filter(None, map(reference_of, metrics))))
        self.requests: Sequence[Request] = tuple(self._asked(vocabulary))

    @property
    def digest(self) -> str:
        """sha256 of the examples in their order, what may be shown before them, and the file.

        And of the Python beside the file.
        """
        said = {key: value for key, value in self._file.raw.items() if key != "dataset_kwargs"}
        shots = self.lm_eval_task.fewshot_docs() if self.lm_eval_task.config.num_fewshot else None
        python = [
            p.read_text(errors="replace") for p in sorted(self._file.path.parent.glob("*.py"))
        ]
        return digest([said, python, list(shots or ()), *(e.document for e in self.examples)])

    @property
    def contents(self) -> list[Content]:
        """What the examples ask, in their order."""
        return [content_of(self.lm_eval_task, e.document) for e in self.examples]

    def __len__(self) -> int:
        """Number of examples."""
        return len(self.examples)

    @property
    def documents(self) -> list[Document]:
        """The examples in their order, as people know them."""
        return [
            document_of(self.lm_eval_task, one.document, one.asked, self.requests[place.start])
            for one, place in zip(self.examples, self.places, strict=True)
        ]

    @property
    def places(self) -> list[range]:
        """Which of the requests are about each example."""
        more = len(self._references)
        ends = [0, *accumulate(len(example.asked) + more for example in self.examples)]
        return [range(start, stop) for start, stop in pairwise(ends)]

    def first(self, count: int) -> Task:
        """The same task with its first examples only, or all where it has no more."""
        part = copy.copy(self)
        part.examples = self.examples[:count]
        part._instances = [instance for example in part.examples for instance in example.asked]
        asked = len(part._instances) + len(part.examples) * len(self._references)
        part.requests = self.requests[:asked]
        if self._choices is not None:
            part._choices = Choices(self.lm_eval_task, part.examples)
        return part

    def follows_its_examples(self, spelling: str) -> bool:
        """Whether a metric moves as the mean of its examples does (no f1, no perplexity)."""
        return follows_its_examples(self._aggregation(spelling))

    def measure(self, responses: Sequence[Response], metrics: Sequence[str]) -> dict[str, Measured]:
        """Metrics of the model that gave these responses, one to each request.

        Args:
            responses: in the order of ``requests``.
            metrics: spellings among ``self.metrics``.

        Raises:
            Unscorable: when a metric says nothing of some examples.
        """
        items: dict[str, list[Any]] = {}
        for spelling in metrics:
            reference = None if spelling in self.metrics else reference_of(spelling)
            if reference is not None:
                items[spelling] = self._divergences(responses, reference)
        answers = self._own(responses)
        full = {spelling: self._full[spelling] for spelling in metrics if spelling not in items}
        for spelling, name in full.items():
            metric = name.partition(",")[0]
            if self._choices is not None and metric in Choices.metrics:
                items[spelling] = self._choices.items(answers, metric)
            elif name == OUTPUT_TOKENS:
                items[spelling] = self._output_tokens(answers)
        rest = [spelling for spelling in metrics if spelling not in items]
        items |= self._by_lm_eval(answers, rest) if rest else {}
        return {
            spelling: aggregated(self._aggregation(spelling), items[spelling])
            for spelling in metrics
        }

    def _asked(self, vocabulary: Callable[[], int]) -> Iterator[Request]:
        """Of each example what lm-eval asks, then what compares it with each reference."""
        most = 0
        if self._references:
            share = len(self.examples) * len(self._references) * vocabulary()
            most = min(_COMPARED, max(1, _REMEMBERED // share))
        for example in self.examples:
            own = [request_of(instance) for instance in example.asked]
            yield from own
            for reference in self._references:
                yield divergence_of(reference, own, most)

    def _own(self, responses: Sequence[Response]) -> Sequence[Response]:
        """The responses to lm-eval's requests."""
        if not self._references:
            return responses
        both = zip(self.requests, responses, strict=True)
        return [answer for request, answer in both if not isinstance(request, Divergence)]

    def _divergences(self, responses: Sequence[Response], reference: str) -> list[Any]:
        """In nats, of each example."""
        return [
            answer
            for request, answer in zip(self.requests, responses, strict=True)
            if isinstance(request, Divergence) and request.reference == reference
        ]

    def answer(self, responses: Sequence[Response], filters: set[str] | None = None) -> None:
        """Give lm-eval's instances these responses, as all or some filters read them."""
        for instance, response in zip(self._instances, responses, strict=True):
            instance.resps = [_as_lm_eval(response)] * instance.repeats
            instance.filtered_resps = {}
        for ensemble in self.lm_eval_task._filters:
            if filters is None or ensemble.name in filters:
                ensemble.apply(self._instances)

    def _output_tokens(self, responses: Sequence[Response]) -> list[float]:
        """Tokens of each answer, up to what ends it; the mean where an example has several."""
        widths = (float(self._width(str(response))) for response in responses)
        return [statistics.fmean(islice(widths, len(one.asked))) for one in self.examples]

    def _by_lm_eval(
        self, responses: Sequence[Response], metrics: Sequence[str]
    ) -> dict[str, list[Any]]:
        wanted = {spelling: self._full[spelling].split(",", 1) for spelling in metrics}
        self.answer(responses, {name for _, name in wanted.values()})
        results = functools.cache(self.results)
        items = {}
        for spelling, (metric, name) in wanted.items():
            items[spelling] = [result[metric] for result in results(name) if metric in result]
            if silent := len(self) - len(items[spelling]):
                raise Unscorable(f"{self.name}/{spelling} has no value for {silent} examples")
        return items

    def _aggregation(self, spelling: str) -> Callable[..., float] | None:
        found: Callable[..., float] | None = self.lm_eval_task.aggregation().get(
            self._full.get(spelling, spelling).partition(",")[0]
        )
        return found

    def results(self, name: str) -> list[Mapping[str, Any]]:
        """What lm-eval says of each example, as one filter reads the answers."""
        return [
            self.lm_eval_task.process_results(
                example.document, [i.filtered_resps[name] for i in example.asked]
            )
            for example in self.examples
        ]


def _as_lm_eval(response: Response) -> object:
    if isinstance(response, Answer):
        return (response.loglikelihood, response.greedy)
    return response


def _remember_documents(task: Any, examples: Sequence[Example]) -> None:
    """Make a task fill its templates once for each document, and not for every model.

    Python that a task brings is called as often as lm-eval calls it.
    """
    for name in ("doc_to_text", "doc_to_choice", "doc_to_target"):
        template = getattr(task.config, name)
        if template is None or callable(template):
            continue
        remembered = {id(e.document): getattr(task, name)(e.document) for e in examples}

        def look_up(document: Any, remembered: dict[int, Any] = remembered) -> Any:
            return remembered[id(document)]

        setattr(task, name, look_up)
