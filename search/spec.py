"""What the user asks for, as written: frozen, and checked as far as it can be without any file."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    model_validator,
)

from search.layout import LayerGroups
from search.problems import Invalid, Problem
from search.registry import suggestion

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,95}$")]
DType = Literal["auto", "float32", "bfloat16", "float16"]

BASE = "base"

# The error rate of racing that is measured.
RACING = 0.05


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ModelRef(_Part):
    """A checkpoint folder below a model root, or a revision of a model on the Hub.

    A branch or tag becomes the commit that it means when the spec is submitted.
    """

    path: str | None = Field(default=None, min_length=1, max_length=4096)
    hub: str | None = Field(default=None, pattern=r"^[\w.-]+/[\w.-]+$")
    revision: str | None = Field(
        default=None, pattern=r"^[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)*$", max_length=200
    )

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.path is None) == (self.hub is None):
            raise ValueError("name either a path or a hub model")
        if (self.hub is None) != (self.revision is None):
            raise ValueError(
                "a hub model needs a revision (commit, branch or tag), a path has none"
            )
        return self


def _not_base(name: str) -> str:
    if name == BASE:
        raise ValueError("'base' is taken: it always means the base model")
    return name


class Parent(ModelRef):
    """A fine-tuned checkpoint under the name by which recipes and plots call it.

    The search may leave a parent out that is ``optional``.
    """

    name: Annotated[Name, AfterValidator(_not_base)]
    optional: bool = False


class Range(_Part):
    """Search this parameter between two bounds, both reachable.

    It has a value for every block; ``blocks: model`` makes it one for the whole model, and
    ``gradient: 3`` one at each of three depths, first layer to last, with lines in between.
    """

    low: float
    high: float
    log: bool = False
    gradient: int | None = Field(default=None, ge=2, le=64)
    blocks: Literal["model"] | None = None

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if not self.low < self.high:
            raise ValueError(f"low is {self.low} and high is {self.high}; low must be below high")
        if self.log and self.low <= 0:
            raise ValueError(f"a logarithmic range must start above 0, not at {self.low}")
        return self

    @model_validator(mode="after")
    def _once_or_by_depth(self) -> Self:
        if self.gradient is not None and self.blocks is not None:
            raise ValueError("blocks: model is one value, and a gradient several; write either")
        return self


class Choices(_Part):
    """Search among some values: numbers, words, or true and false.

    Numbers are chosen for every block, with ``blocks: model`` once for the whole model; all else
    always is.
    """

    choices: tuple[bool | int | float | str, ...] = Field(min_length=2, max_length=64)
    blocks: Literal["model"] | None = None

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        texts = [repr(choice) for choice in self.choices]
        if again := _repeated(texts):
            raise ValueError(f"{again} stands there more than once")
        return self


class Directed(_Part):
    """Search in which direction the parents' weights change the base, and how far, apart.

    One ``norm`` for the whole model: the length of the merged change, in mean lengths of the
    parents' own. Beside it every block has shares of the parents, one gene less than there are.
    """

    norm: Range
    blocks: Literal["model"] | None = None

    @model_validator(mode="after")
    def _one_norm(self) -> Self:
        if self.norm.gradient is not None or self.norm.blocks is not None:
            raise ValueError("the norm is one number for the whole model: {low, high}")
        if self.norm.low < 0:
            raise ValueError(f"a norm is not negative, but low is {self.norm.low:g}")
        return self


def _form(value: object) -> str | None:
    """Which form something was written in, so that only that form's problems are reported."""
    match value:
        case Choices() | {"choices": _}:
            return "<choices>"
        case Directed() | {"norm": _}:
            return "<norm>"
        case dict() | BaseModel():
            return "<mapping>"
        case bool():
            return "<flag>"
        case int() | float():
            return "<number>"
        case str():
            return "<word>"
        case list() | tuple():
            return "<list>"
    return None


# What searches a parameter; anything else fixes it, everywhere or for each parent.
Searched = Range | Choices | Directed
Setting = Annotated[
    Annotated[Range, Tag("<mapping>")]
    | Annotated[Choices, Tag("<choices>")]
    | Annotated[Directed, Tag("<norm>")]
    | Annotated[bool, Tag("<flag>")]
    | Annotated[float, Tag("<number>")]
    | Annotated[str, Tag("<word>")]
    | Annotated[tuple[float, ...], Tag("<list>")],
    Discriminator(
        _form,
        custom_error_type="parameter_form",
        custom_error_message=(
            "write a number, a range {low, high}, {choices: [...]}, or a list: one number a parent"
        ),
    ),
]
Method = Annotated[
    Annotated[str, Field(min_length=1, max_length=100), Tag("<word>")]
    | Annotated[Choices, Tag("<choices>")],
    Discriminator(
        _form,
        custom_error_type="method_form",
        custom_error_message="write the name of a method, or {choices: [...]} to search among some",
    ),
]
Blocks = Annotated[
    Annotated[Literal["model", "tensor"], Tag("<word>")] | Annotated[LayerGroups, Tag("<mapping>")],
    Discriminator(
        _form,
        custom_error_type="blocks_form",
        custom_error_message="write model, tensor, or {layers: 2, modules: [attention, mlp]}",
    ),
]


# In a path, the layers of what the method makes of the parents.
MERGED = "merged"


def _each_source_once(sources: tuple[str, ...]) -> tuple[str, ...]:
    if twice := _repeated(sources):
        raise ValueError(f"{twice} stands there more than once; repeats say how often layers come")
    return sources


class LayerPath(_Part):
    """Search which layers hidden states pass through, in which order and how often.

    The layers of all ``sources`` stand in a row, ``repeats`` times: the slots of Akiba et al. 2024
    (arXiv:2403.13187), who search which of them are passed, and by what states are scaled before.
    ``order: depth`` puts the first layers of all sources before all second ones. ``layers``
    consecutive layers come and go together; by default so many that a source has eight groups at
    most. The path starts as the first source is: each layer once, none of the others.
    """

    sources: Annotated[tuple[Name, ...], AfterValidator(_each_source_once)] = Field(
        default=(MERGED,), min_length=1, max_length=16
    )
    layers: int | None = Field(default=None, ge=1, le=1024)
    repeats: int = Field(default=2, ge=1, le=8)
    order: Literal["models", "depth"] = "models"
    scale: Range | None = None

    @model_validator(mode="after")
    def _scales_are_positive(self) -> Self:
        if self.scale is not None and not 0.1 <= self.scale.low <= self.scale.high <= 10:
            raise ValueError("scale is between 0.1 and 10: states are multiplied, again and again")
        if self.scale is not None and (self.scale.gradient or self.scale.blocks):
            raise ValueError("scale has a value for each slot; give it low, high and log alone")
        return self


def _is_none(path: LayerPath | None) -> bool:
    return path is None


class Space(_Part):
    """Which parameters are searched, in how many separate blocks of the model, and which layers."""

    blocks: Blocks = "model"
    parameters: dict[str, Setting] = {}
    # Not told where there is none: digests of other specs stay what they were.
    path: LayerPath | None = Field(default=None, exclude_if=_is_none)

    @property
    def needs_geometry(self) -> bool:
        """Whether its points stand for lengths, which are those of the models."""
        return any(isinstance(setting, Directed) for setting in self.parameters.values())


class Relative(_Part):
    """A bound that follows from what there was: a score plus a difference, in the metric's unit.

    ``{base: -0.02}`` is what the base scores less 0.02, ``{best_parent: 0}`` what the parent scores
    that is best in this metric.
    """

    base: float | None = None
    best_parent: float | None = None

    @model_validator(mode="after")
    def _to_one(self) -> Self:
        if (self.base is None) == (self.best_parent is None):
            raise ValueError("write either {base: difference} or {best_parent: difference}")
        return self

    @property
    def margin(self) -> float:
        """What is added to the score."""
        return (self.best_parent or 0.0) if self.base is None else self.base


Bound = Annotated[
    Annotated[float, Tag("<number>")] | Annotated[Relative, Tag("<mapping>")],
    Discriminator(
        _form,
        custom_error_type="bound_form",
        custom_error_message="write a number, {base: difference} or {best_parent: difference}",
    ),
]


class Objective(_Part):
    """One metric of one task. ``weight`` counts where a single number is needed (CMA-ES, best).

    ``at_least`` and ``at_most`` are constraints, in the metric's own sign and unit: candidates that
    hold them come before all that do not.
    """

    task: str = Field(min_length=1, max_length=200)
    metric: str = Field(min_length=1, max_length=100)
    weight: float = Field(default=1.0, gt=0)
    at_least: Bound | None = None
    at_most: Bound | None = None

    @model_validator(mode="after")
    def _leaves_room(self) -> Self:
        low, high = self.at_least, self.at_most
        if isinstance(low, float) and isinstance(high, float) and low > high:
            raise ValueError(f"at_least is {low:g} and at_most is {high:g}; no score is both")
        return self

    @property
    def key(self) -> str:
        """The name of its scores."""
        return f"{self.task}/{self.metric}"


class Evaluation(_Part):
    """How every task is asked, in lm-eval's words; what is not said is as each task's file has it.

    ``num_fewshot`` counts the examples before a question; a task whose file says 0 stays at 0.
    ``system_instruction`` stands before everything. ``apply_chat_template`` puts all of it into the
    tokenizer's template, examples as turns of their own unless ``fewshot_as_multiturn`` is false.
    """

    num_fewshot: int | None = Field(default=None, ge=0, le=1000)
    apply_chat_template: bool = False
    fewshot_as_multiturn: bool | None = None
    system_instruction: str | None = Field(default=None, min_length=1, max_length=100_000)

    @model_validator(mode="after")
    def _turns_of_a_template(self) -> Self:
        if self.fewshot_as_multiturn and not self.apply_chat_template:
            raise ValueError("fewshot_as_multiturn needs apply_chat_template: there are no turns")
        return self

    @property
    def as_turns(self) -> bool:
        """Whether few-shot examples are turns; by default wherever there is a template."""
        turns = self.fewshot_as_multiturn
        return self.apply_chat_template if turns is None else turns


class OptimizerChoice(BaseModel):
    """An optimizer and its options; which options there are is the optimizer's own declaration."""

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)

    name: str

    @property
    def options(self) -> dict[str, Any]:
        """Everything but the name."""
        return dict(self.model_extra or {})


class Budget(_Part):
    """How much is spent.

    ``parallel`` candidates are in flight at most; it is part of the spec because the sequence of
    candidates depends on it. A few times the number of worker slots leaves nobody idle.
    """

    evaluations: int = Field(ge=1, le=1_000_000)
    parallel: int = Field(default=8, ge=1, le=1024)


class Stop(_Part):
    """End before the budget does, once the search stagnates.

    That is when the last ``patience`` evaluations have added less than the share ``gain`` to the
    hypervolume, and, of an optimizer with a surrogate, that expects less of any further one.
    """

    patience: int = Field(ge=1, le=1_000_000)
    gain: float = Field(default=0.01, gt=0, lt=1)


class Continued(_Part):
    """An earlier search that this one begins with: its first so many evaluations.

    All that it has by then, when this one is submitted, unless that is said.
    """

    search: str = Field(min_length=1, max_length=64)
    evaluations: int | None = Field(default=None, ge=1, le=1_000_000)


def _continued(value: object) -> object:
    return {"search": value} if isinstance(value, str) else value


def _differ_in_name(parents: tuple[Parent, ...]) -> tuple[Parent, ...]:
    if twice := _repeated(parent.name for parent in parents):
        raise ValueError(f"{twice} is the name of more than one; give each parent its own name")
    return parents


def _differ(objectives: tuple[Objective, ...]) -> tuple[Objective, ...]:
    if twice := _repeated(objective.key for objective in objectives):
        raise ValueError(f"{twice} is listed more than once; list each objective once")
    return objectives


def _repeated(names: Iterable[str]) -> str:
    """The first name that comes again, in quotes; empty when all differ."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return f"'{name}'"
        seen.add(name)
    return ""


class SearchSpec(_Part):
    """A whole search; the same spec and seed give the same candidates.

    ``allow_leaderboards`` lets it search on the test sets of public leaderboards, which is refused
    otherwise: a model that was searched on one cannot be compared there.

    ``racing`` is an error rate: a candidate that is shown to be behind leaves before all examples
    are scored (see `search.racing`), where the optimizer and all metrics allow it; of those that
    leave at most this share was as good as whom they left for, however much or little candidates
    differ. With 0 all are scored to the end.

    ``stop`` ends it early; ``continues`` names a search (its id will do) whose evaluations this one
    begins with and counts, in a space that may be another.
    """

    name: Name
    base: ModelRef
    parents: Annotated[tuple[Parent, ...], AfterValidator(_differ_in_name)] = Field(
        min_length=1, max_length=64
    )
    method: Method
    space: Space = Space()
    objectives: Annotated[tuple[Objective, ...], AfterValidator(_differ)] = Field(
        min_length=1, max_length=16
    )
    evaluation: Evaluation = Evaluation()
    optimizer: OptimizerChoice = OptimizerChoice(name="auto")
    budget: Budget
    stop: Stop | None = None
    continues: Annotated[
        Continued | None, BeforeValidator(_continued, json_schema_input_type=str | Continued | None)
    ] = None
    allow_leaderboards: bool = False
    racing: float = Field(
        default=0.0,
        ge=0,
        lt=0.5,
        description="Of the candidates that leave before all examples are scored, because they are "
        "shown to be behind, at most this share was as good as whom they left for; 0 scores all.",
    )
    dtype: DType = "auto"
    seed: int = Field(default=0, ge=0, lt=2**63)

    @property
    def method_names(self) -> tuple[str, ...]:
        """The method, or those that the search chooses among."""
        return tuple(map(str, getattr(self.method, "choices", (self.method,))))

    @property
    def digest(self) -> str:
        """sha256 of the canonical JSON, in hex."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


def parse_spec(document: Any) -> SearchSpec:
    """The spec in a parsed YAML or JSON document.

    Raises:
        Invalid: with every problem that can be seen without reading a file or a registry.
    """
    try:
        return SearchSpec.model_validate(document)
    except ValidationError as error:
        raise Invalid(problems_of(error, SearchSpec)) from None


def problems_of(error: ValidationError, model: type[BaseModel], prefix: str = "") -> list[Problem]:
    """Pydantic's errors as problems: paths as the user wrote them, near matches for unknown fields.

    Args:
        error: of validating ``model``.
        model: its fields are what unknown ones are compared with.
        prefix: path of the part that was validated, ending in a dot ("optimizer.").
    """
    problems = []
    for item in error.errors(include_url=False):
        location = [part for part in item["loc"] if not str(part).startswith("<")]
        message = item["msg"].removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":
            message = (
                f"unknown field; {suggestion(str(location[-1]), _fields(model, location[:-1]))}"
            )
        elif item["type"] == "missing":
            message = "is required"
        elif item["type"] in ("too_short", "too_long"):
            message = _count_misfit(**item["ctx"])
        elif not isinstance(item["input"], dict | list | tuple | BaseModel):
            message += f" (got {_short(item['input'])})"
        field = (prefix + field_path(location)).removesuffix(".") or "spec"
        problems.append(Problem(field=field, message=message))
    return problems


def _count_misfit(
    *, actual_length: int, min_length: int = 0, max_length: int = 0, **_: object
) -> str:
    wanted = f"at most {max_length} are allowed" if max_length else f"name at least {min_length}"
    return f"has {actual_length}; {wanted}"


def field_path(location: Iterable[str | int]) -> str:
    """``("parents", 1, "path")`` as ``parents[1].path``."""
    path = ""
    for part in location:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else part
    return path


def _fields(model: type[BaseModel], location: Iterable[str | int]) -> list[str]:
    """Names of the fields of the part of a model that a location leads to."""
    here = model
    for part in location:
        if isinstance(part, str) and part in here.model_fields:
            here = next(iter(_models_in(here.model_fields[part].annotation)), here)
    return list(here.model_fields)


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in getattr(annotation, "__args__", ()):
        yield from _models_in(argument)


def _short(value: object) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else text[:57] + "..."
