"""A search that was written for mergekit-evolve, as a spec of ours."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from search.layout import Module, module_of
from search.method import MethodDeclaration, Parameter
from search.problems import Invalid, Problem
from search.registry import suggestion
from search.spec import problems_of
from workers.mergekit.configuration import short_names
from workers.mergekit.dialect import (
    TASK_VECTORS,
    default_there,
    fixed_there,
    known_to_mergekit,
    merges_differences,
    method_called,
    spoken,
)

# What it searches, of whatever method; everything else has mergekit's default.
_SEARCHED = frozenset({"weight", "density", "t"})
# It leaves these to its command line: --max-fevals, and --sigma0 in units of a weight.
_EVALUATIONS = 100
_STEP = 1 / 6

# (model as it is written, field) -> the fields of a spec that say where it is.
Place = Callable[[str, str], Mapping[str, str]]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class _Genome(_Part):
    models: Annotated[tuple[str, ...], Field(min_length=1)]
    merge_method: str
    base_model: str | None = None
    tokenizer_source: str | None = None
    layer_granularity: int = 0
    normalize: bool | None = None
    allow_negative_weights: bool = False
    filters: tuple[str, ...] | None = None
    smooth: bool = False


class _Task(_Part):
    name: str
    weight: float = 1.0
    metric: str = "acc,none"


def _named(task: Any) -> Any:
    return {"name": task} if isinstance(task, str) else task


class _Evolution(_Part):
    genome: _Genome
    tasks: Annotated[tuple[Annotated[_Task, BeforeValidator(_named)], ...], Field(min_length=1)]
    limit: int | None = None
    num_fewshot: int | None = None
    shuffle: bool = False
    random_init: bool = False
    apply_chat_template: bool = True
    fewshot_as_multiturn: bool = True


@dataclass(frozen=True, slots=True)
class Converted:
    """A spec as a document, and what of the original it does not say: field and reason each."""

    document: dict[str, Any]
    notes: tuple[Problem, ...]


def convert(document: Any, name: str, place: Place) -> Converted:
    """The spec that searches what a mergekit-evolve configuration would.

    Args:
        document: the parsed YAML.
        name: of the search.
        place: finds a model; raises Invalid.

    Raises:
        Invalid: with everything that mergekit-evolve would refuse, or no spec can say.
    """
    try:
        given = _Evolution.model_validate(document)
    except ValidationError as error:
        raise Invalid(problems_of(error, _Evolution)) from None
    genome = given.genome
    method = method_called(genome.merge_method)
    if method is None:
        near = suggestion(genome.merge_method, known_to_mergekit())
        message = f"'{genome.merge_method}' is no method that both programs have; {near}"
        raise Invalid([Problem(field="genome.merge_method", message=message)])
    declaration = method.declaration
    based = genome.base_model is not None
    differences = merges_differences(declaration, base_is_named=based)
    objectives = [_objective(task) for task in given.tasks if task.weight]
    # A base among the models adds nothing to itself.
    parents = [m for m in genome.models if not (differences and m == genome.base_model)]
    problems = list(_problems(genome, declaration, parents, differences=differences))
    if not objectives:
        problems.append(Problem(field="tasks", message="have no weight; give one a weight"))
    places: dict[str, Mapping[str, str]] = {}
    for field, model in _models(genome, parents):
        try:
            places.setdefault(model, place(model, field))
        except Invalid as invalid:
            problems += invalid.problems
    if problems:
        raise Invalid(list(dict.fromkeys(problems)))
    names = short_names(parents)
    modules = [m for m in map(module_of, genome.filters or ()) if m is not None]
    parameters = _parameters(genome, declaration, differences=differences)
    spec = {
        "name": name,
        "base": dict(places[genome.base_model or genome.models[0]]),
        "parents": [{"name": names[model], **places[model]} for model in parents],
        "method": method.name,
        "space": {"blocks": _blocks(genome, modules), "parameters": parameters},
        "objectives": objectives,
        "optimizer": {"name": "cma_es", **_step(parameters)},
        "budget": {"evaluations": _EVALUATIONS},
        "dtype": "bfloat16",
    }
    return Converted(spec, (*_genome_notes(genome, differences=differences), *_notes(given)))


def _problems(
    genome: _Genome, declaration: MethodDeclaration, parents: Sequence[str], *, differences: bool
) -> Iterator[Problem]:
    if differences and genome.base_model is None:
        message = f"is required by {genome.merge_method}"
        yield Problem(field="genome.base_model", message=message)
    if not declaration.takes(len(parents)):
        message = f"'{genome.merge_method}' takes {declaration.parent_count}, not {len(parents)}"
        yield Problem(field="genome.models", message=message)
    for index, model in enumerate(genome.models):
        if model in genome.models[:index]:
            yield Problem(field=f"genome.models[{index}]", message="is listed more than once")
    if genome.layer_granularity < 0:
        yield Problem(field="genome.layer_granularity", message="is a number of layers, from 0")


def _models(genome: _Genome, parents: Sequence[str]) -> Iterator[tuple[str, str]]:
    """(field, model) of every model that the spec will name."""
    if genome.base_model is not None:
        yield "genome.base_model", genome.base_model
    for index, model in enumerate(genome.models):
        if model in parents:
            yield f"genome.models[{index}]", model


def _parameters(
    genome: _Genome, declaration: MethodDeclaration, *, differences: bool
) -> dict[str, Any]:
    """What is searched, and what mergekit has otherwise than we."""
    said = spoken(declaration)
    usual = {p.name: default_there(declaration, p) for p in said} | fixed_there(declaration)
    usual[TASK_VECTORS] = differences
    usual["normalize"] = genome.normalize
    if genome.normalize is None:
        usual["normalize"] = genome.merge_method in ("ties", "dare_ties", "linear")
    parameters: dict[str, Any] = {}
    for parameter in declaration.parameters:
        if parameter in said and parameter.name in _SEARCHED:
            parameters[parameter.name] = _range(parameter, genome)
        elif usual.get(parameter.name, parameter.default) != parameter.default:
            parameters[parameter.name] = usual[parameter.name]
    return parameters


def _range(parameter: Parameter, genome: _Genome) -> dict[str, Any]:
    low = parameter.low
    if parameter.name == "weight":
        low = -parameter.high if genome.allow_negative_weights else 0.0
    given: dict[str, Any] = {"low": max(low, parameter.minimum), "high": parameter.high}
    return given | ({"log": True} if parameter.log else {})


def _step(parameters: Mapping[str, Any]) -> dict[str, float]:
    """The step is in units of a gene's range; of `t` it has none of its own."""
    if (weight := parameters.get("weight")) is None:
        return {}
    return {"step": round(_STEP / (weight["high"] - weight["low"]), 4)}


def _blocks(genome: _Genome, modules: Sequence[Module]) -> Any:
    if not (genome.layer_granularity or modules):
        return "model"
    layers = genome.layer_granularity or "all"
    found: dict[str, Any] = {"layers": layers}
    return found | ({"modules": list(dict.fromkeys(modules))} if modules else {})


def _objective(task: _Task) -> dict[str, Any]:
    objective: dict[str, Any] = {"task": task.name, "metric": task.metric}
    return objective | ({} if abs(task.weight) == 1.0 else {"weight": abs(task.weight)})


def _genome_notes(genome: _Genome, *, differences: bool) -> Iterator[Problem]:
    def note(field: str, message: str) -> Problem:
        return Problem(field=f"genome.{field}", message=message)

    for index, model in enumerate(genome.models):
        if differences and model == genome.base_model:
            yield note(f"models[{index}]", "is the base, to which it adds nothing; left out")
    if not differences:
        lender = "it" if genome.base_model else "the first model"
        field = "base_model" if genome.base_model else "models[0]"
        message = f"{genome.merge_method} needs no base; {lender} lends configuration and tokenizer"
        yield note(field, message)
    if genome.tokenizer_source not in (None, "base", genome.base_model):
        message = f"is {genome.tokenizer_source}; here the merged model has the base's tokenizer"
        yield note("tokenizer_source", message)
    if genome.smooth:
        message = (
            "each group of layers has its own values; write gradient: N into the ranges, with as "
            "many knots as there are groups, to interpolate between them"
        )
        yield note("smooth", message)
    if genome.layer_granularity or genome.filters:
        message = (
            "embeddings, final norm and head are blocks of their own here; there they have the "
            "values of the first or last layers"
        )
        yield note("layer_granularity", message)
    for index, part in enumerate(genome.filters or ()):
        module = module_of(part)
        if module is None:
            message = f"'{part}' is no block here: blocks are split into attention, mlp and norm"
            yield note(f"filters[{index}]", message)
        elif "." in part:
            yield note(f"filters[{index}]", f"'{part}' is taken for all of {module}")


def _notes(given: _Evolution) -> Iterator[Problem]:
    for index, task in enumerate(given.tasks):
        if task.weight == 0.0:
            yield Problem(field=f"tasks[{index}]", message="has weight 0; left out")
        elif task.weight < 0.0:
            message = (
                f"is {task.weight:g}; the task says itself whether less is better, so that "
                "weights are positive"
            )
            yield Problem(field=f"tasks[{index}].weight", message=message)
    said = {
        "limit": (given.limit, "every example of the task's search split is used"),
        "num_fewshot": (given.num_fewshot, "set num_fewshot in the task's own YAML"),
        "shuffle": (given.shuffle, "examples have a fixed order, so that scores can be compared"),
        "random_init": (given.random_init, "starts at the best of base, parents and average"),
        "apply_chat_template": (
            given.apply_chat_template,
            "it is true there unless set; here prompts are as the task writes them",
        ),
    }
    for field, (value, message) in said.items():
        if value:
            yield Problem(field=field, message=message)
