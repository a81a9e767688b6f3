"""Which documents of a task are the examples of a split, and what is asked about each."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evals.requests import Continuation, Prompt, Request, Text
from evals.suite import Split
from evals.task_files import TaskFile
from evals.task_rules import shows_what_it_asks, split_of
from search.spec import Evaluation

# lm-eval's chat history, and whether the answer begins after it, as the text that the model reads.
ChatTemplate = Callable[..., str]


@dataclass(frozen=True, slots=True)
class Example:
    """A document of a task, its place in the dataset, and what is asked (lm-eval's Instances)."""

    place: int
    document: Any
    asked: Sequence[Any]


def chosen(
    documents: Sequence[object], task_file: TaskFile, split: Split | None, limit: float | None
) -> list[int]:
    """Places of the documents that are the examples of a split, in the order of the examples.

    Without a split they are all documents, and a limit means what it means to lm-eval.
    """
    whole = split is None or task_file.config.splits is not None
    places = [place for place, doc in enumerate(documents) if whole or split_of(doc) is split]
    if limit is None:
        return places
    return places[: math.ceil(len(places) * limit) if limit < 1 else int(limit)]


def examples_of(
    task: Any,
    task_file: TaskFile,
    split: Split | None,
    limit: float | None,
    evaluation: Evaluation,
    template: ChatTemplate | None,
) -> list[Example]:
    """The examples of a split with their requests, contexts drawn exactly as lm-eval draws them."""
    if split is not None and shows_what_it_asks(task_file):
        # Only search documents are ever shown with their answers.
        shown = [doc for doc in task.fewshot_docs() if split_of(doc) is Split.SEARCH]
        task.sampler.replace_df(shown)
    documents = list(task.eval_docs)
    places = chosen(documents, task_file, split, limit)
    wanted, found = set(places), {}
    for place, doc in enumerate(documents[: max(places, default=-1) + 1]):
        # Few-shot examples are drawn for one document after the other: none may be passed over.
        if place not in wanted and not task.config.num_fewshot:
            continue
        context = task.fewshot_context(
            doc,
            num_fewshot=task.config.num_fewshot,
            system_instruction=evaluation.system_instruction,
            apply_chat_template=evaluation.apply_chat_template,
            fewshot_as_multiturn=evaluation.as_turns,
            chat_template=template,
            gen_prefix=task.doc_to_prefix(doc),
        )
        if place in wanted:
            asked = task.construct_requests(
                doc=doc,
                ctx=context,
                metadata=(task.config.task, place, task.config.repeats),
                apply_chat_template=evaluation.apply_chat_template,
                chat_template=template,
            )
            found[place] = Example(place, doc, asked if isinstance(asked, list) else [asked])
    return [found[place] for place in places]


def request_of(instance: Any) -> Request:
    """What lm-eval asks, in our words."""
    match instance.request_type:
        case "loglikelihood":
            return Continuation(*instance.args)
        case "loglikelihood_rolling":
            return Text(*instance.args)
        case _:
            return _prompt(*instance.args)


def _prompt(context: str, options: Mapping[str, Any]) -> Prompt:
    from lm_eval.models.utils import handle_stop_sequences, normalize_gen_kwargs

    normal = normalize_gen_kwargs(dict(options))
    until = handle_stop_sequences(normal["until"], eos=None)
    return Prompt(context, tuple(until), normal["max_gen_toks"])
