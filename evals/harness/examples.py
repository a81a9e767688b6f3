"""Which documents of a task are the examples of a split, and what is asked about each."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evals.drawing import Content, divided, in_order
from evals.requests import Continuation, Divergence, Prompt, Request, Text
from evals.suite import Split, Suite
from evals.task_files import TaskFile
from evals.task_rules import shows_what_it_asks

# lm-eval's chat history, and whether the answer begins after it, as the text that the model reads.
ChatTemplate = Callable[..., str]


@dataclass(frozen=True, slots=True)
class Example:
    """A document of a task, its place in the dataset, and what is asked (lm-eval's Instances)."""

    place: int
    document: Any
    asked: Sequence[Any]


def examples_of(
    task: Any, task_file: TaskFile, suite: Suite, template: ChatTemplate | None
) -> list[Example]:
    """The examples of a split with their requests, in the order of the draw.

    Contexts are drawn exactly as lm-eval draws them: for one document after the other.
    """
    if suite.split is not None and shows_what_it_asks(task_file):
        # Only search documents are ever shown with their answers.
        documents = list(task.fewshot_docs())
        task.sampler.replace_df([documents[n] for n in _of(task, documents, Split.SEARCH, suite)])
    documents = list(task.eval_docs)
    places = chosen(task, documents, task_file, suite)
    wanted, found = set(places), {}
    for place, doc in enumerate(documents[: max(places, default=-1) + 1]):
        # None may be passed over where examples are drawn.
        if place not in wanted and not task.config.num_fewshot:
            continue
        context = task.fewshot_context(
            doc,
            num_fewshot=task.config.num_fewshot,
            system_instruction=suite.evaluation.system_instruction,
            apply_chat_template=suite.evaluation.apply_chat_template,
            fewshot_as_multiturn=suite.evaluation.as_turns,
            chat_template=template,
            gen_prefix=task.doc_to_prefix(doc),
        )
        if place in wanted:
            asked = task.construct_requests(
                doc=doc,
                ctx=context,
                metadata=(task.config.task, place, task.config.repeats),
                apply_chat_template=suite.evaluation.apply_chat_template,
                chat_template=template,
            )
            found[place] = Example(place, doc, asked if isinstance(asked, list) else [asked])
    return [found[place] for place in places]


def chosen(task: Any, documents: Sequence[object], task_file: TaskFile, suite: Suite) -> list[int]:
    """Places of the documents that are the examples of a split, in the order of the examples."""
    if suite.split is None:
        return list(range(_kept(len(documents), suite.limit)))
    whole = task_file.config.splits is not None
    places = range(len(documents)) if whole else _of(task, documents, suite.split, suite)
    contents = [content_of(task, documents[place]) for place in places]
    kept = _kept(len(places), suite.limit)
    return [places[n] for n in in_order(contents, suite.seed)[:kept]]


def _kept(count: int, limit: float | None) -> int:
    """How many of some examples a limit leaves; below 1 it is a share, as in lm-eval."""
    if limit is None:
        return count
    return min(count, math.ceil(count * limit) if limit < 1 else int(limit))


def content_of(task: Any, document: object) -> Content:
    """What a document asks: its question with the choices, or the text whose likelihood counts."""
    question, target = task.doc_to_text(document), task.doc_to_target(document)
    if task.OUTPUT_TYPE == "multiple_choice":
        asked = [question, sorted(map(str, task.doc_to_choice(document)))]
    else:
        asked = [question, target]
    return Content(json.dumps(asked, default=str), str(target))


def _of(task: Any, documents: Sequence[object], split: Split, suite: Suite) -> list[int]:
    """Places of the documents of one split, of a task that does not bring its own."""
    contents = [content_of(task, document) for document in documents]
    drawn = divided(contents, suite.seed)
    return [place for place, found in enumerate(drawn) if found is split]


def request_of(instance: Any) -> Request:
    """What lm-eval asks, in our words."""
    match instance.request_type:
        case "loglikelihood":
            return Continuation(*instance.args)
        case "loglikelihood_rolling":
            return Text(*instance.args)
        case _:
            return _prompt(*instance.args)


def divergence_of(reference: str, asked: Sequence[Request], most: int) -> Divergence:
    """What compares a model with a reference on an example.

    Of a text that is read, the first ``most`` tokens; else what comes after the question.
    """
    texts = tuple(request.text for request in asked if isinstance(request, Text))
    if texts:
        return Divergence(reference, texts, most)
    shown = [
        # Spaces in between are part of the answer.
        request.context.rstrip() if isinstance(request, Continuation) else request.context
        for request in asked
        if isinstance(request, Continuation | Prompt)
    ]
    # Answers without their question are asked as well where they are weighed against it.
    return Divergence(reference, tuple(dict.fromkeys(filter(None, shown))) or ("",), None)


def _prompt(context: str, options: Mapping[str, Any]) -> Prompt:
    from lm_eval.models.utils import handle_stop_sequences, normalize_gen_kwargs

    normal = normalize_gen_kwargs(dict(options))
    until = handle_stop_sequences(normal["until"], eos=None)
    return Prompt(context, tuple(until), normal["max_gen_toks"])
