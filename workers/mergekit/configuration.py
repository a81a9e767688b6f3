"""A mergekit configuration as far as it can be understood without the models it names."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import PurePosixPath
from typing import Annotated, Any, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from search.problems import Invalid, Problem
from search.registry import suggestion
from search.spec import BASE, DType, problems_of
from workers.mergekit.dialect import (
    BASE_COMES_FIRST,
    DIFFERS,
    IGNORED,
    known_to_mergekit,
    merges_differences,
    method_called,
    spoken,
)
from workers.mergekit.passthrough import METHOD as PASSTHROUGH
from workers.mergekit.passthrough import StackedSlice, Stacking
from workers.mergekit.settings import Setting, parse_settings
from workers.merging.merge_method import MergeMethod, methods

_STACKS = (
    "stacks layers of models and merges them at once; stack them with passthrough first, and name "
    "that folder as a model here, or merge first and stack the folder of the merge"
)
_SAME_TOKENIZER = (
    "the merged model has the base's tokenizer; if all models have the same, write base"
)


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    parameters: dict[str, Any] | None = None


class _Source(_Part):
    model: str = Field(min_length=1)
    layer_range: tuple[int, int] | None = None


class _Slice(_Part):
    sources: Annotated[tuple[_Source, ...], Field(min_length=1)]
    base_model: str | None = None


class _Document(_Part):
    merge_method: str
    models: Annotated[tuple[_Source, ...], Field(min_length=1)] | None = None
    slices: Annotated[tuple[_Slice, ...], Field(min_length=1)] | None = None
    modules: Any = None
    base_model: str | None = None
    dtype: str | None = None
    out_dtype: str | None = None
    tokenizer_source: str | None = None
    tokenizer: dict[str, Any] | None = None
    chat_template: str | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """What a configuration says of one model in one slice."""

    field: str
    settings: Mapping[str, Setting]


@dataclass(frozen=True, slots=True)
class Slice:
    """Consecutive layers that share what a configuration says of them.

    Args:
        field: where it stands.
        layers: first layer and the one after the last; None means all.
        sources: by the model as it is written.
        settings: of the slice.
    """

    field: str
    layers: tuple[int, int] | None
    sources: Mapping[str, Source]
    settings: Mapping[str, Setting]


@dataclass(frozen=True, slots=True)
class Configuration:
    """A configuration whose method is ours, before its values are spread over tensors.

    Args:
        method: what to merge with.
        models: name in recipes -> model as it is written (see `place_of`); ``base`` is among them.
        parents: names of the models that are merged, in order.
        slices: consecutive; at least one.
        settings: of the whole configuration.
        differences: whether differences to the base are merged, and not the models themselves.
        dtype: of the merged model.
        notes: what was left out, and why that changes nothing.
    """

    method: MergeMethod
    models: Mapping[str, str]
    parents: tuple[str, ...]
    slices: tuple[Slice, ...]
    settings: Mapping[str, Setting]
    differences: bool
    dtype: DType
    notes: tuple[Problem, ...]


def parse_configuration(document: Any) -> Configuration | Stacking:
    """Understand a parsed YAML document.

    Raises:
        Invalid: with everything that mergekit would not accept, or that a recipe cannot say.
    """
    given = _document(document)
    if given.merge_method == PASSTHROUGH:
        return _stacking(given)
    problems: list[Problem] = []
    method = _method(given)
    slices = tuple(_slices(given, problems))
    settings = parse_settings(given.parameters, "parameters", problems)
    base = _base_model(given, problems)
    differences = merges_differences(method.declaration, base_is_named=base is not None)
    members = list(slices[0].sources)
    problems += _unlike(slices, members)
    problems += _unbased(given.merge_method, base, members, differences=differences)
    if differences and base is not None and "+" in base:
        message = "is where task vectors start: a whole model, without an adapter"
        problems.append(Problem(field="base_model", message=message))
    merged = [model for model in members if model != base]
    if base is not None and not differences:
        merged.insert(0, base)
    lends = _lends_tokenizer(given, _whole(base or members[0]), problems, fixed=differences)
    problems += _strangers(slices[0], lends)
    dtype = _dtype(given, problems)
    names = {lends: BASE} | short_names(model for model in merged if model != lends)
    if not method.declaration.takes(len(merged)):
        where = slices[0].field and f"{slices[0].field}.sources"
        message = f"'{given.merge_method}' takes {method.declaration.parent_count}"
        if differences:
            message += " beside the base model"
        problems.append(Problem(field=where or "models", message=f"{message}, not {len(merged)}"))
    if problems:
        raise Invalid(list(dict.fromkeys(problems)))
    sections = [settings, *(part for s in slices for part in (s.settings, *_settings_of(s)))]
    return Configuration(
        method=method,
        models={names[model]: model for model in dict.fromkeys([lends, *merged])},
        parents=tuple(names[model] for model in merged),
        slices=slices,
        settings=settings,
        differences=differences,
        dtype=dtype,
        notes=(*_notes(given), *_rounded(members), *_unread(sections, method)),
    )


def _document(document: Any) -> _Document:
    try:
        given = _Document.model_validate(document)
    except ValidationError as error:
        raise Invalid(problems_of(error, _Document)) from None
    if given.modules is not None:
        message = "is for models of several parts; write models, or slices, of a language model"
        raise Invalid([Problem(field="modules", message=message)])
    if (given.models is None) == (given.slices is None):
        raise Invalid([Problem(field="models", message="write either models or slices")])
    return given


def _method(given: _Document) -> MergeMethod:
    method = method_called(given.merge_method)
    if method is None:
        near = suggestion(given.merge_method, (*known_to_mergekit(), PASSTHROUGH))
        message = f"'{given.merge_method}' is no method that both programs have; {near}"
        raise Invalid([Problem(field="merge_method", message=message)])
    return method


def _stacking(given: _Document) -> Stacking:
    """A configuration that merges nothing, but stacks layers."""
    problems: list[Problem] = []
    settings = parse_settings(given.parameters, "parameters", problems)
    slices = list(_single_sources(given, problems))
    if problems:
        raise Invalid(problems)
    base = _base_model(given, problems)
    first = next(iter(slices[0].sources))
    lends = _lends_tokenizer(given, _whole(base or first), problems, fixed=False)
    for part in slices:
        problems += _strangers(part, lends)
    stacked = [model for part in slices for model in part.sources]
    names = {lends: BASE} | short_names(m for m in dict.fromkeys(stacked) if m != lends)
    stacking = Stacking(
        models={name: model for model, name in names.items()},
        parents=tuple(dict.fromkeys(names[model] for model in stacked)),
        slices=tuple(
            StackedSlice(
                source.field, names[model], part.layers, (source.settings, part.settings, settings)
            )
            for part in slices
            for model, source in part.sources.items()
        ),
        dtype=_dtype(given, problems),
        notes=(*_notes(given), *_rounded(stacked)),
    )
    problems += stacking.unread()
    if problems:
        raise Invalid(list(dict.fromkeys(problems)))
    return stacking


def _single_sources(given: _Document, problems: list[Problem]) -> Iterator[Slice]:
    for part in _slices(given, problems):
        if len(part.sources) > 1:
            where = part.field and f"{part.field}.sources"
            message = f"'{PASSTHROUGH}' takes one model at a time, not {len(part.sources)}"
            problems.append(Problem(field=where or "models", message=message))
        yield part


def _slices(given: _Document, problems: list[Problem]) -> Iterator[Slice]:
    if given.models is not None:
        sources = _sources(given.models, "models", problems)
        problems += [
            Problem(field=f"models[{i}].layer_range", message="belongs into slices")
            for i, source in enumerate(given.models)
            if source.layer_range is not None
        ]
        yield Slice("", None, sources, {})
    for number, part in enumerate(given.slices or ()):
        field = f"slices[{number}]"
        yield Slice(
            field,
            _layers(part, field, problems),
            _sources(part.sources, f"{field}.sources", problems),
            parse_settings(part.parameters, f"{field}.parameters", problems),
        )


def _sources(sources: Sequence[_Source], field: str, problems: list[Problem]) -> dict[str, Source]:
    found: dict[str, Source] = {}
    for number, source in enumerate(sources):
        where = f"{field}[{number}]"
        if source.model in found:
            problems.append(Problem(field=f"{where}.model", message="is listed more than once"))
        settings = parse_settings(source.parameters, f"{where}.parameters", problems)
        found[source.model] = Source(where, settings)
    return found


def place_of(model: str) -> str:
    """The folder or Hub id in how a model is written: of ``base+adapter`` that of the adapter."""
    return model.rpartition("+")[2]


def _whole(model: str) -> str:
    """What ``base+adapter`` is an adapter of; a model without an adapter itself."""
    return model.partition("+")[0]


def _strangers(part: Slice, base: str) -> Iterator[Problem]:
    """Adapters of another model than the base."""
    for model, source in part.sources.items():
        if "+" in model and _whole(model) != base:
            message = (
                f"puts the adapter '{place_of(model)}' into '{_whole(model)}', but the base is "
                f"'{base}'; save the adapted model, and name its folder"
            )
            yield Problem(field=f"{source.field}.model", message=message)


def _rounded(members: Sequence[str]) -> Iterator[Problem]:
    if any("+" in model for model in members):
        message = (
            "mergekit rounds adapted models to the dtype of their base before it merges them; here "
            "only the result is rounded"
        )
        yield Problem(field="models", message=message)


def _layers(part: _Slice, field: str, problems: list[Problem]) -> tuple[int, int] | None:
    """The layers of a slice, which must be the same of every model; None where they are not."""
    ranges = {source.layer_range for source in part.sources}
    layers = part.sources[0].layer_range
    if layers is None or len(ranges) > 1:
        missing = None in ranges
        message = f"differs between models, which {_STACKS}"
        if missing:
            message = "is required in slices: [first layer, layer after the last]"
        number = next(i for i, s in enumerate(part.sources) if not missing or s.layer_range is None)
        where = f"{field}.sources[{number}].layer_range"
        problems.append(Problem(field=where, message=message))
        return None
    return layers


def _unlike(slices: Sequence[Slice], members: Sequence[str]) -> Iterator[Problem]:
    """Slices that do not follow one another from layer 0, or do not merge the same models."""
    ends = [0, *(s.layers[1] for s in slices if s.layers is not None)]
    for part, end in zip(slices, ends, strict=False):
        if part.layers is not None and (part.layers[0] != end or part.layers[1] <= end):
            message = f"starts at layer {part.layers[0]} where layer {end} is next: that {_STACKS}"
            yield Problem(field=f"{part.field}.sources[0].layer_range", message=message)
    for before, part in pairwise(slices):
        if part.sources.keys() != before.sources.keys():
            message = f"must be the models of the first slice: {', '.join(members)}"
            yield Problem(field=f"{part.field}.sources", message=message)


def _base_model(given: _Document, problems: list[Problem]) -> str | None:
    named = {"base_model": given.base_model} | {
        f"slices[{i}].base_model": part.base_model for i, part in enumerate(given.slices or ())
    }
    stated = {field: model for field, model in named.items() if model is not None}
    base = next(iter(stated.values()), None)
    for field, model in stated.items():
        if model != base:
            message = f"is '{model}' here and '{base}' elsewhere; a recipe has one base"
            problems.append(Problem(field=field, message=message))
    return base


def _unbased(
    method: str, base: str | None, members: Sequence[str], *, differences: bool
) -> Iterator[Problem]:
    """A base model that is missing, or should be among the models that are merged."""
    if base is None and (differences or method in BASE_COMES_FIRST):
        yield Problem(field="base_model", message=f"is required by {method}")
    elif base not in members and method in BASE_COMES_FIRST:
        message = f"'{base}' must be one of the two models that are merged"
        yield Problem(field="base_model", message=message)


def _lends_tokenizer(given: _Document, base: str, problems: list[Problem], *, fixed: bool) -> str:
    """The model that is the base of the recipe: its configuration and tokenizer are kept.

    Args:
        given: the configuration.
        base: the model that it is unless another one lends its tokenizer.
        problems: receives what is wrong.
        fixed: whether it must be this one.
    """
    field, source = "tokenizer_source", given.tokenizer_source
    if given.tokenizer is not None:
        field, source = "tokenizer.source", given.tokenizer.get("source", "union")
        if more := sorted(given.tokenizer.keys() - {"source"}):
            message = f"asks for another vocabulary than the models have; {_SAME_TOKENIZER}"
            problems.append(Problem(field=f"tokenizer.{more[0]}", message=message))
    if source in (None, "base", base):
        if source == "base" and given.base_model is None:
            problems.append(Problem(field=field, message="is base, but there is no base_model"))
        return base
    if source == "union" or not isinstance(source, str):
        message = f"asks for the union of all vocabularies, but {_SAME_TOKENIZER}"
        problems.append(Problem(field=field, message=message))
        return base
    if fixed:
        message = f"is '{source}', but {_SAME_TOKENIZER}"
        problems.append(Problem(field=field, message=message))
        return base
    return _whole(source)


def _dtype(given: _Document, problems: list[Problem]) -> DType:
    known: tuple[DType, ...] = get_args(DType)
    for field, value in (("dtype", given.dtype), ("out_dtype", given.out_dtype)):
        computed_only = field == "dtype" and given.out_dtype is not None
        if value is None or value in known[1:] or (computed_only and value == "float64"):
            continue
        message = f"is '{value}', which no merged model can have; {suggestion(value, known[1:])}"
        problems.append(Problem(field=field, message=message))
    wanted = given.out_dtype or given.dtype
    return next((dtype for dtype in known if dtype == wanted), "auto")


def _notes(given: _Document) -> Iterator[Problem]:
    if given.dtype not in (None, "float32"):
        message = f"mergekit computes in {given.dtype}; here sums are taken in float32"
        yield Problem(field="dtype", message=message)
    if given.chat_template is not None:
        message = "is not applied: the merged model has the base's chat template"
        yield Problem(field="chat_template", message=message)
    if given.merge_method in DIFFERS:
        yield Problem(field="merge_method", message=DIFFERS[given.merge_method])


def _settings_of(part: Slice) -> Iterator[Mapping[str, Setting]]:
    return (source.settings for source in part.sources.values())


def _unread(sections: Sequence[Mapping[str, Setting]], method: MergeMethod) -> Iterator[Problem]:
    """Notes on parameters that change nothing.

    Raises:
        Invalid: a parameter that mergekit may have for this method, and we have not.
    """
    read = {parameter.name for parameter in spoken(method.declaration)}
    elsewhere = {p.name for m in methods if m.declaration.mergekit for p in spoken(m.declaration)}
    problems = []
    for name, setting in ((name, s) for section in sections for name, s in section.items()):
        if name in read:
            continue
        if name in IGNORED:
            yield Problem(field=setting.field, message=f"is left out: {IGNORED[name]}")
        elif name in elsewhere:
            message = f"is left out: mergekit's {method.declaration.mergekit} does not read it"
            yield Problem(field=setting.field, message=message)
        else:
            message = f"'{method.name}' has no such parameter; {suggestion(name, read)}"
            problems.append(Problem(field=setting.field, message=message))
    if problems:
        raise Invalid(problems)


def short_names(models: Iterable[str]) -> dict[str, str]:
    """A name for each of some models, none of which is the base: the last part of how it is called.

    Args:
        models: folders or Hub ids, as they are written.
    """
    names: dict[str, str] = {}
    for model in models:
        last = PurePosixPath(place_of(model).partition("@")[0]).name
        stem = re.sub(r"[^A-Za-z0-9._-]+", "-", last).lstrip("._-")[:80] or "model"
        spellings = itertools.chain([stem], (f"{stem}-{number}" for number in itertools.count(2)))
        names[model] = next(s for s in spellings if s != BASE and s not in names.values())
    return names
