"""From what a user sent to a submission that can run, or to everything that is wrong with it.

The cheap checks come first and all of them are made, also on a spec that has other faults: a user
fixes one list of problems, once. No weight is read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError

from api import hub
from api.locating import locate
from api.settings import Settings
from api.store import Submission
from evals import harness
from search.flow import Flow
from search.layout import Layout
from search.method import MethodDeclaration, one_of
from search.optimizer import optimizers
from search.problems import Invalid, Problem
from search.registry import UnknownName, suggestion
from search.run import opening
from search.space import SearchSpace
from search.spec import (
    BASE,
    Evaluation,
    ModelRef,
    Objective,
    OptimizerChoice,
    Parent,
    SearchSpec,
    parse_spec,
    problems_of,
)
from workers.checkpoints.chat_template import chat_template
from workers.merging.merge_method import methods
from workers.messages import Zoo
from workers.paths.planning import at_most, refusals
from workers.planning.memory import free_memory
from workers.planning.needs import Needs, free_disk, needs
from workers.planning.preflight import Preflight, preflight

Part = TypeVar("Part")
Form = TypeVar("Form", bound=BaseModel)

_OBJECTIVES = TypeAdapter(tuple[Objective, ...])


# Finds a model's folder: a reference and the field it stands under, to the field that names its
# place and the folder. Raises Invalid when there is none.
Find = Callable[[ModelRef, str], tuple[str, Path]]


@dataclass(frozen=True, slots=True)
class Accepted:
    """A spec that can run, and what it would cost.

    ``genes`` is the number of searched coefficients; ``warnings`` are worth knowing but stop
    nothing.
    """

    submission: Submission
    preflight: Preflight
    genes: int
    needs: Needs
    warnings: tuple[Problem, ...] = ()


@dataclass(slots=True)
class Folders:
    """Where the models are that were found: (field, folder), and (field, name, folder) each."""

    base: tuple[str, Path] | None = None
    parents: list[tuple[str, str, Path]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Examined:
    """All that can be told of a document without reading weights.

    Args:
        problems: everything that is wrong with it.
        folders: models that were found.
        spec: None where its form is wrong.
        preflight: None where there is no base.
        space: None where nothing can be searched.
        needs: None where the sizes are not known.
    """

    problems: tuple[Problem, ...]
    folders: Folders
    spec: SearchSpec | None = None
    preflight: Preflight | None = None
    space: SearchSpace | None = None
    needs: Needs | None = None

    @property
    def warnings(self) -> tuple[Problem, ...]:
        """What is worth knowing and stops nothing."""
        found = self.preflight.warnings if self.preflight else ()
        return (*found, *(self.needs.shortages() if self.needs else ()))


def examine(document: object, settings: Settings, find: Find) -> Examined:
    """Check a parsed document against everything that can be known without reading weights."""
    problems: list[Problem] = []
    spec = _attempt(lambda: parse_spec(document), problems)
    raw = document if isinstance(document, dict) else {}
    problems += _method_problems(raw)
    problems += _optimizer_problems(raw)
    problems += _objective_problems(raw, settings)
    folders = _find_models(raw, find, problems)
    found = _preflight(folders, problems)
    problems += _template_problems(spec, folders)
    space = _space(spec, found, problems)
    found = _along_paths(space, found, folders, problems)
    if space is not None and spec is not None and found is not None and found.layout is not None:
        problems += _misuses(spec, space.dim)
        problems += _too_small(spec, space)
    return Examined(
        tuple(dict.fromkeys(problems)),
        folders,
        spec,
        found,
        space,
        _needs(spec, found, settings) if spec and found and found.layout else None,
    )


def validate(document: object, settings: Settings) -> Accepted:
    """Turn a parsed document into a submission.

    Raises:
        Invalid: with every problem that was found, each with its field path.
    """
    examined = examine(document, settings, partial(locate, settings=settings))
    match examined:
        case Examined(
            problems=(),
            folders=Folders(base=(_, base), parents=parents),
            spec=SearchSpec() as spec,
            preflight=Preflight(layout=Layout() as layout) as found,
            space=SearchSpace() as space,
            needs=Needs() as needs,
        ):
            submission = Submission(
                spec=_pinned(spec, examined.folders),
                layout=layout,
                zoo=Zoo(
                    base=str(base),
                    parents=tuple((name, str(folder)) for _, name, folder in parents),
                    dtype=found.dtype if spec.dtype == "auto" else spec.dtype,
                ),
                directions=harness.directions(spec.objectives, _library(spec.evaluation, settings)),
                task_folders=tuple(str(folder) for folder in settings.tasks),
                trusted_folders=tuple(str(folder) for folder in settings.trusted_tasks),
                facts={
                    "genes": space.dim,
                    "parameters": found.parameters,
                    "memory_bytes": found.memory_bytes,
                    "checkpoint_bytes": found.checkpoint_bytes,
                    "warnings": [warning.model_dump() for warning in found.warnings],
                    "adapters": [model.name for model in found.models if model.is_adapter],
                    "hub": _from_hub(spec, examined.folders),
                },
            )
            return Accepted(submission, found, space.dim, needs, examined.warnings)
    raise Invalid(examined.problems)


def _needs(spec: SearchSpec, found: Preflight, settings: Settings) -> Needs:
    """Measured on the machine that answers; workers elsewhere may have more."""
    declaration = _declaration(spec)
    return needs(
        found,
        memory=free_memory(),
        disk_free_bytes=free_disk(settings.checkpoint_folder),
        examples=harness.example_count(spec.objectives, _library(spec.evaluation, settings)),
        evaluations=spec.budget.evaluations,
        directions=0 if declaration is None else declaration.kept(len(spec.parents)),
    )


def _places(folders: Folders) -> dict[str, Path]:
    base = {} if folders.base is None else {BASE: folders.base[1]}
    return base | {name: folder for _, name, folder in folders.parents}


def _pinned(spec: SearchSpec, folders: Folders) -> SearchSpec:
    """The spec with commits where it names branches or tags, which move."""
    places = _places(folders)
    base, *parents = (
        ref.model_copy(update={"revision": places[name].name}) if ref.hub else ref
        for name, ref in ((BASE, spec.base), *((p.name, p) for p in spec.parents))
    )
    return spec.model_copy(update={"base": base, "parents": tuple(parents)})


def _from_hub(spec: SearchSpec, folders: Folders) -> dict[str, Any]:
    """What was found for each Hub id: the commit of its revision, and the hashes of its files."""
    places = _places(folders)
    refs = ((BASE, spec.base), *((parent.name, parent) for parent in spec.parents))
    return {
        name: {
            "id": ref.hub,
            "revision": ref.revision,
            "commit": places[name].name,
            "files": hub.file_hashes(places[name]),
        }
        for name, ref in refs
        if ref.hub
    }


def _space(
    spec: SearchSpec | None, found: Preflight | None, problems: list[Problem]
) -> SearchSpace | None:
    """The search space; its parameters are checked even where the base is not known."""
    if spec is None or (declaration := _declaration(spec)) is None:
        return None
    layout = found.layout if found and found.layout else Layout(tensors=())
    return _attempt(lambda: SearchSpace(declaration, spec, layout), problems)


def _along_paths(
    space: SearchSpace | None,
    found: Preflight | None,
    folders: Folders,
    problems: list[Problem],
) -> Preflight | None:
    """The preflight where models may have other layers than the base, if they may."""
    match space, found, folders:
        case (
            SearchSpace(flow=Flow() as flow),
            Preflight(layout=Layout() as layout, problems=()),
            Folders(base=(_, base)),
        ):
            problems += refusals(base, layout, flow.longest, scales=flow.scales)
            return at_most(found, flow.longest, scales=flow.scales)
    return found


def _declaration(spec: SearchSpec) -> MethodDeclaration | None:
    """Of the method, or of all that are chosen among; None where one is unknown."""
    if any(name not in methods for name in spec.method_names):
        return None
    return one_of([methods[name].declaration for name in spec.method_names])


def _attempt(build: Callable[[], Part], problems: list[Problem]) -> Part | None:
    """What ``build`` makes, or None and its problems."""
    try:
        return build()
    except Invalid as invalid:
        problems += invalid.problems
        return None


def _part(model: type[Form], value: object) -> Form | None:
    """A part of a spec where it is well formed; its form is not judged here."""
    try:
        return model.model_validate(value)
    except ValidationError:
        return None


def _method_problems(raw: dict[Any, Any]) -> Iterator[Problem]:
    given = raw.get("method")
    choices = given.get("choices") if isinstance(given, dict) else None
    places = {"method": given}
    if isinstance(choices, list):
        places = {f"method.choices[{place}]": name for place, name in enumerate(choices)}
    for field_, name in places.items():
        if isinstance(name, str) and name:
            try:
                methods[name]
            except UnknownName as error:
                yield Problem(field=field_, message=str(error))


def _optimizer_problems(raw: dict[Any, Any]) -> Iterator[Problem]:
    choice = _part(OptimizerChoice, raw.get("optimizer"))
    if choice is None:
        return
    try:
        optimizer = optimizers[choice.name]
    except UnknownName as error:
        yield Problem(field="optimizer.name", message=str(error))
        return
    try:
        optimizer.options.model_validate(choice.options)
    except ValidationError as error:
        yield from problems_of(error, optimizer.options, "optimizer.")


def _objective_problems(raw: dict[Any, Any], settings: Settings) -> Sequence[Problem]:
    try:
        objectives = _OBJECTIVES.validate_python(raw.get("objectives"))
    except ValidationError:
        return ()
    evaluation = _part(Evaluation, raw.get("evaluation", {})) or Evaluation()
    library = _library(evaluation, settings)
    problems = [*harness.check(objectives, library), *_without_reference(objectives, raw)]
    if raw.get("allow_leaderboards") is not True:
        problems += harness.leaderboards(objectives, library)
    return problems


def _without_reference(objectives: Sequence[Objective], raw: dict[Any, Any]) -> Iterator[Problem]:
    """Divergences to a model that the spec does not name."""
    parents = raw.get("parents")
    given = [_part(Parent, value) for value in parents] if isinstance(parents, list | tuple) else []
    names = [BASE, *(parent.name for parent in given if parent is not None)]
    for field_, name in harness.references(objectives).items():
        if name not in names:
            message = f"is a divergence to '{name}', which is no parent; {suggestion(name, names)}"
            yield Problem(field=field_, message=message)


def _library(evaluation: Evaluation, settings: Settings) -> harness.Library:
    return harness.Library(settings.tasks, settings.trusted_tasks, evaluation)


def _find_models(raw: dict[Any, Any], find: Find, problems: list[Problem]) -> Folders:
    folders = Folders()
    base = _part(ModelRef, raw.get("base"))
    if base is not None:
        folders.base = _attempt(partial(find, base, "base"), problems)
    parents = raw.get("parents")
    for index, value in enumerate(parents if isinstance(parents, list | tuple) else ()):
        parent = _part(Parent, value)
        if parent is None:
            continue
        at = f"parents[{index}]"
        found = _attempt(partial(find, parent, at), problems)
        if found is not None:
            path, folder = found
            folders.parents.append((path, parent.name, folder))
    return folders


def _template_problems(spec: SearchSpec | None, folders: Folders) -> Iterator[Problem]:
    """Merged models answer in the base's template."""
    if spec is None or folders.base is None or not spec.evaluation.apply_chat_template:
        return
    if chat_template(folders.base[1]) is None:
        message = "the base has no chat template; leave it out, or put one into its folder"
        yield Problem(field="evaluation.apply_chat_template", message=message)


def _preflight(folders: Folders, problems: list[Problem]) -> Preflight | None:
    """Compare the headers of all models that were found; nothing can be compared without a base."""
    if folders.base is None:
        return None
    found = preflight(folders.base, folders.parents)
    problems += found.problems
    return found


def _misuses(spec: SearchSpec, dim: int) -> Iterator[Problem]:
    """What the optimizer cannot do with this spec."""
    if spec.optimizer.name not in optimizers:
        return
    optimizer = optimizers[spec.optimizer.name]
    options = _part(optimizer.options, spec.optimizer.options)
    if options is not None:
        for path, message in optimizer.problems(spec, dim, options).items():
            yield Problem(field=path, message=message)


def _too_small(spec: SearchSpec, space: SearchSpace) -> Iterator[Problem]:
    needed = len(opening(space))
    if spec.budget.evaluations < needed:
        message = (
            f"is {spec.budget.evaluations}, but the search begins with {needed} evaluations: the "
            "base, every parent, their average and warm starts"
        )
        yield Problem(field="budget.evaluations", message=message)
