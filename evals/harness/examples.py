"""Which documents of a task are the examples of a split, and what is asked about each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evals.requests import Continuation, Prompt, Request, Text
from evals.suite import Split
from evals.task_files import TaskFile
from evals.task_rules import shows_what_it_asks, split_of

# An example of a task: the document, and what is asked about it (lm-eval's Instances).
Example = tuple[Any, list[Any]]


def examples_of(task: Any, task_file: TaskFile, split: Split, limit: int | None) -> list[Example]:
    """The examples of a split with their requests, contexts drawn exactly as lm-eval draws them."""
    divided = task_file.config.splits is None
    if shows_what_it_asks(task_file):
        # Only search documents are ever shown with their answers.
        shown = [doc for doc in task.fewshot_docs() if split_of(doc) is Split.SEARCH]
        task.sampler.replace_df(shown)
    examples: list[Example] = []
    for index, doc in enumerate(task.eval_docs):
        if limit is not None and len(examples) >= limit:
            break
        chosen = not divided or split_of(doc) is split
        # Few-shot examples are drawn for one document after the other: none may be passed over.
        if chosen or task.config.num_fewshot:
            context = task.fewshot_context(
                doc, num_fewshot=task.config.num_fewshot, gen_prefix=task.doc_to_prefix(doc)
            )
        if chosen:
            metadata = (task.config.task, index, task.config.repeats)
            asked = task.construct_requests(doc=doc, ctx=context, metadata=metadata)
            examples.append((doc, asked if isinstance(asked, list) else [asked]))
    return examples


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
