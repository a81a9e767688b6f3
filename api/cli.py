"""The command line. Exit codes: 0 done, 1 it failed, 2 the input is wrong, 3 no server answers.

Whatever a command needs is imported when it runs, so that ``--help`` answers at once.
"""

# typer reads the annotations of commands at run time, hence no postponed evaluation here.

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from api.client import Client
    from api.schemas import NeedsView
    from api.settings import Settings
    from search.problems import Problem

FAILED, USAGE, UNREACHABLE = 1, 2, 3

app = typer.Typer(
    name="nichemerge",
    help="Search for the merge that keeps the strengths of all your fine-tuned checkpoints.",
    epilog="Exit codes: 0 done, 1 it failed, 2 the input is wrong, 3 no server answers.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Server = Annotated[
    str,
    typer.Option(
        "--server", "-s", envvar="NICHEMERGE_URL", help="Address of the service.", show_default=True
    ),
]
Token = Annotated[
    str | None,
    typer.Option(
        envvar="NICHEMERGE_API_TOKEN", help="Its API token.", show_envvar=True, show_default=False
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Answer in JSON, for programs.")]
SpecFile = Annotated[
    Path, typer.Argument(help="A spec in YAML or JSON; - reads standard input.", metavar="SPEC")
]
Id = Annotated[str, typer.Argument(help="Id of a search.", metavar="ID")]
Adapter = Annotated[
    bool, typer.Option("--adapter", help="Write a LoRA adapter; every parent must be one.")
]
Rank = Annotated[
    int | None, typer.Option(help="Cut that adapter to this rank; exact when not given.", min=1)
]
Out = Annotated[Path, typer.Option("--out", help="Folder to write to.")]

_URL = "http://127.0.0.1:8765"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command and leave with its exit code; what a user can cause ends in a line of text."""
    # Read when torch is loaded: threads that wait for each other sleep. Spinning, a training on a
    # core that others use too takes forty times as long.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        app(arguments)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(FAILED)


# The service


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on.")] = None,
    home: Annotated[Path | None, typer.Option(help="Folder of database and artifacts.")] = None,
    as_json: Json = False,
) -> None:
    """Run the service: REST API, dashboard and controller. Ends on Ctrl-C or SIGTERM."""
    from api.logs import set_up

    settings = _settings(host=host, port=port, home=home)
    set_up(settings.home / "logs")
    _announce(settings, as_json=as_json)
    with _explained():
        from api.server import serve as run

        sys.exit(run(settings))


@app.command()
def controller(
    home: Annotated[Path | None, typer.Option(help="Folder of database and artifacts.")] = None,
    as_json: Json = False,
) -> None:
    """Run a controller alone, against the database of a service elsewhere."""
    from api.logs import set_up

    settings = _settings(home=home)
    set_up(settings.home / "logs")
    if as_json:
        _print({"home": str(settings.home)})
    with _explained():
        from api.server import control

        sys.exit(control(settings))


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the best checkpoint.")] = Path("demo-run"),
    evaluations: Annotated[int, typer.Option(help="Budget of the search.", min=10)] = 100,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the service running.")] = False,
    seed: Annotated[int, typer.Option(help="Of the playground and the search.", min=0)] = 0,
    as_json: Json = False,
) -> None:
    """Search the playground from end to end: build, submit, watch, download, score again."""
    with _explained():
        from api.demo import DemoFailed
        from api.demo import demo as tour

        try:
            tour(_settings(), out, evaluations=evaluations, keep=keep, seed=seed)
        except DemoFailed as error:
            _fail(str(error))
    if as_json:
        _print({"checkpoint": str(out / "best")})


# Searches


@app.command()
def validate(
    spec: SpecFile, server: Server = _URL, token: Token = None, as_json: Json = False
) -> None:
    """Check a spec and say what it would cost; nothing is started."""
    from api.terminal import out, print_json, print_notes, print_problems, size_text

    with _client(server, token) as client:
        answer = client.validate(_read(spec))
    if as_json:
        print_json(answer)
    else:
        print_problems(answer.problems)
        print_notes(answer.warnings)
        if answer.valid:
            out.out(
                f"The spec is valid: {answer.genes} searched coefficients, {answer.parameters:,} "
                f"parameters, {size_text(answer.memory_bytes)} of memory per worker, "
                f"{size_text(answer.checkpoint_bytes)} per checkpoint"
                f"{_and_time(answer.needs)}."
            )
    if not answer.valid:
        sys.exit(USAGE)


@app.command()
def submit(
    spec: SpecFile,
    server: Server = _URL,
    token: Token = None,
    key: Annotated[
        str | None, typer.Option(help="Idempotency key: the same key and spec, the same search.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Submit a search; prints its id."""
    from api.terminal import err, out, print_json

    with _client(server, token) as client:
        search = client.submit(_read(spec), key=key)
    if as_json:
        print_json(search)
    else:
        out.out(search.id)
        err.out(f"Watch it: nichemerge watch {search.id}, or {server}/#/searches/{search.id}")


@app.command("list")
def list_searches(server: Server = _URL, token: Token = None, as_json: Json = False) -> None:
    """All searches, newest first."""
    from api.terminal import out, print_json, search_table

    with _client(server, token) as client:
        searches = list(client.searches())
    if as_json:
        print_json(searches)
    else:
        out.print(search_table(searches))


@app.command()
def watch(search: Id, server: Server = _URL, token: Token = None, as_json: Json = False) -> None:
    """Follow a search until it is over: evaluations, best, hypervolume, time left."""
    from api.terminal import follow, out, print_problems

    with _client(server, token) as client:
        if as_json:
            for event in client.watch(search):
                out.out(event.model_dump_json())
            detail = client.search(search)
        else:
            detail = follow(client, search)
    print_problems(detail.problems)
    if detail.state != "finished":
        sys.exit(FAILED)


@app.command()
def front(search: Id, server: Server = _URL, token: Token = None, as_json: Json = False) -> None:
    """The candidates that no other dominates, beside base, parents and average."""
    from api.terminal import front_table, out, print_json

    with _client(server, token) as client:
        found = client.front(search)
        if as_json:
            print_json(found)
        else:
            out.print(front_table(client.search(search), found.items))


@app.command()
def best(search: Id, server: Server = _URL, token: Token = None, as_json: Json = False) -> None:
    """The winner on examples that the search never saw, and how far it is ahead of the others."""
    from api.terminal import candidate_table, out, print_json, result_table

    with _client(server, token) as client:
        if as_json:
            print_json(client.best(search))
            return
        detail = client.search(search)
        if detail.result is not None:
            out.print(result_table(detail, detail.result))
        else:
            title = "Best so far, on the search split"
            out.print(candidate_table(detail.objectives, [client.best(search)], title))


@app.command()
def download(
    search: Id,
    out: Out,
    candidate: Annotated[
        int | None, typer.Option(help="Ordinal; the best by the spec's weights when not given.")
    ] = None,
    adapter: Adapter = False,
    rank: Rank = None,
    server: Server = _URL,
    token: Token = None,
    as_json: Json = False,
) -> None:
    """Make a candidate's checkpoint and download it; run it again to resume."""
    _check_rank(rank, adapter=adapter)
    from api import terminal
    from workers.messages import Form

    form = Form(kind="adapter" if adapter else "model", rank=rank)
    with _client(server, token) as client:
        ordinal = client.best(search).ordinal if candidate is None else candidate
        checkpoint = client.request_checkpoint(search, ordinal, form=form, wait=True)
        if checkpoint.state == "failed":
            _fail(f"The checkpoint of candidate {ordinal} failed: {checkpoint.reason}")
        paths = client.download(search, ordinal, out, form=form)
    if as_json:
        terminal.print_json(checkpoint)
        return
    terminal.out.out(f"Candidate {ordinal}: {len(paths)} files in {out}")
    if rank is not None:
        terminal.out.out(_relative_error(rank, checkpoint.error))


@app.command()
def examples(
    search: Id,
    out: Annotated[Path, typer.Option(help="Parquet file to write.", dir_okay=False)],
    candidate: Annotated[
        list[int] | None, typer.Option(help="Ordinal; again for more, all when not given.")
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="Only search, select or report examples.")
    ] = None,
    server: Server = _URL,
    token: Token = None,
    as_json: Json = False,
) -> None:
    """Download every example's score of every candidate as a Parquet file."""
    from api import terminal

    with _client(server, token) as client:
        size = client.examples(search, out, candidates=candidate or (), split=split)
    if as_json:
        _print({"file": str(out), "size_bytes": size})
    else:
        terminal.out.out(f"{size} bytes in {out}")


@app.command()
def pause(search: Id, server: Server = _URL, token: Token = None, as_json: Json = False) -> None:
    """Start no further evaluation."""
    _command(search, "pause", server, token, as_json=as_json)


@app.command()
def resume(search: Id, server: Server = _URL, token: Token = None, as_json: Json = False) -> None:
    """Go on after a pause."""
    _command(search, "resume", server, token, as_json=as_json)


@app.command()
def extend(
    search: Id,
    evaluations: Annotated[int, typer.Argument(help="How many more.", min=1)],
    server: Server = _URL,
    token: Token = None,
    as_json: Json = False,
) -> None:
    """Allow more evaluations, also after the search has finished."""
    _command(search, "extend", server, token, evaluations=evaluations, as_json=as_json)


@app.command()
def cancel(search: Id, server: Server = _URL, token: Token = None, as_json: Json = False) -> None:
    """End a search for good; what it found stays."""
    _command(search, "cancel", server, token, as_json=as_json)


# Catalogues


@app.command("methods")
def list_methods(server: Server = _URL, token: Token = None, as_json: Json = False) -> None:
    """Merge methods and their parameters."""
    with _client(server, token) as client:
        found = client.methods()
    rows = [
        (m.name, m.summary, ", ".join(p.name + "*" * p.per_parent for p in m.parameters))
        for m in found
    ]
    _catalogue(found, ("method", "does", "parameters (*: one per parent)"), rows, as_json=as_json)


@app.command("optimizers")
def list_optimizers(server: Server = _URL, token: Token = None, as_json: Json = False) -> None:
    """Optimizers and their options."""
    with _client(server, token) as client:
        found = client.optimizers()
    rows = [(o.name, o.summary, ", ".join(o.options.get("properties", {}))) for o in found]
    _catalogue(found, ("optimizer", "does", "options"), rows, as_json=as_json)


@app.command("tasks")
def list_tasks(server: Server = _URL, token: Token = None, as_json: Json = False) -> None:
    """Tasks that can be objectives, and their metrics."""
    with _client(server, token) as client:
        found = client.tasks()
    rows = [(t.name, t.output_type, ", ".join(m.name for m in t.metrics)) for t in found]
    _catalogue(found, ("task", "kind", "metrics"), rows, as_json=as_json)


# Without a server


@app.command()
def merge(
    recipe: Annotated[
        Path,
        typer.Argument(
            help="A recipe in YAML or JSON; its `models` (name: folder, base included) may also be "
            "given with --model. Or a mergekit configuration, whose models are folders beside it.",
            metavar="FILE",
        ),
    ],
    out: Out,
    model: Annotated[
        list[str] | None, typer.Option("--model", help="name=folder; `base` is the base model.")
    ] = None,
    dtype: Annotated[
        str,
        typer.Option(help="auto (the file's, or the base's), float32, bfloat16 or float16."),
    ] = "auto",
    adapter: Adapter = False,
    rank: Rank = None,
    as_json: Json = False,
) -> None:
    """Merge local checkpoints and LoRA adapters into a folder; no server is needed."""
    _check_rank(rank, adapter=adapter)
    with _explained():
        from api.offline import merge_file
        from api.terminal import print_notes

        merged = merge_file(
            _read_bytes(recipe),
            recipe.parent,
            dict(_pair(text) for text in model or ()),
            out,
            dtype=dtype,
            as_adapter=adapter,
            rank=rank,
        )
        print_notes(merged.notes)
    written = merged.written
    files = _listed(written.files)
    if as_json:
        errors = {"error": written.error, "errors": dict(written.errors)} if rank else {}
        _print({"files": files, **errors} if adapter else files)
        return
    typer.echo(f"{len(files)} files in {out}")
    for name, error in sorted(written.errors.items(), key=lambda item: -item[1]):
        typer.echo(f"{error:.2e}  {name}")
    if rank is not None:
        typer.echo(_relative_error(rank, written.error))


@app.command()
def doctor(
    spec: SpecFile,
    weights: Annotated[
        bool, typer.Option("--weights", help="Also read all weights once, and diagnose them.")
    ] = False,
    realign: Annotated[
        str | None,
        typer.Option(
            help="Write a copy of this parent to --out, its neurons, heads and scales put back to "
            "where the base has them. Only for models that you may change.",
            metavar="NAME",
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for --realign.")] = None,
    as_json: Json = False,
) -> None:
    """Say what stops a merge of these models, and what a search would take; needs no server.

    Paths of the spec start at its file. Exits with 1 when something stops the merge.
    """
    if (realign is None) != (out is None):
        _fail("--realign NAME and --out DIR belong together.", USAGE)
    text, beside = _read_bytes(spec), Path() if str(spec) == "-" else spec.parent
    with _explained():
        from api.doctor import realigned, report

        if realign is not None and out is not None:
            files = realigned(text, beside, _settings(), realign, out)
            if as_json:
                _print(_listed(files))
            else:
                typer.echo(f"{len(files)} files in {out}")
            return
        found = report(text, beside, _settings(), weights=weights)
    from api.doctor_tables import doctor_tables
    from api.terminal import out as terminal
    from api.terminal import print_json, print_notes, print_problems

    if as_json:
        print_json(found)
    else:
        terminal.print(doctor_tables(found))
        print_problems(found.problems)
        print_notes(found.warnings)
    if found.problems:
        sys.exit(FAILED)


@app.command()
def convert(
    file: Annotated[Path, typer.Argument(help="A mergekit-evolve configuration.", metavar="FILE")],
    out: Annotated[
        Path | None, typer.Option("--out", help="Spec to write; standard output when not given.")
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option("--model", help="model=folder, for one that does not lie beside the file."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Turn a mergekit-evolve configuration into a spec; what has no counterpart is a comment."""
    with _explained():
        from api.conversion import convert_file

        spec = convert_file(_read_bytes(file), file, dict(_pair(text) for text in model or ()))
        if out is not None:
            out.write_text(spec.text, encoding="utf-8")
    if as_json:
        _print({"spec": spec.document, "notes": [note.model_dump() for note in spec.notes]})
    elif out is None:
        typer.echo(spec.text, nl=False)
    else:
        typer.echo(f"{out}: {len(spec.notes)} comments on what is different")


@app.command()
def score(
    folder: Annotated[Path, typer.Argument(help="A checkpoint folder.", metavar="DIR")],
    tasks: Annotated[str, typer.Option(help="Names of tasks, groups and tags, by comma.")],
    include_path: Annotated[
        list[Path] | None, typer.Option(help="Folder of task YAML; may be repeated.")
    ] = None,
    num_fewshot: Annotated[
        int | None, typer.Option(help="Examples before a question; else as each task says.")
    ] = None,
    limit: Annotated[
        float | None, typer.Option(help="Only the first examples of a task; a share below 1.")
    ] = None,
    apply_chat_template: Annotated[bool, typer.Option("--apply-chat-template")] = False,
    fewshot_as_multiturn: Annotated[
        bool | None, typer.Option(help="Examples as turns; by default where there is a template.")
    ] = None,
    system_instruction: Annotated[str | None, typer.Option(help="Stands before all.")] = None,
    split: Annotated[
        str | None, typer.Option(help="search, select or report; else all that lm-eval scores.")
    ] = None,
    dtype: Annotated[
        str, typer.Option(help="To compute in; else as the folder is stored.")
    ] = "auto",
    examples: Annotated[
        Path | None, typer.Option(help="Write lm-eval's samples here, as JSON lines.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Score any checkpoint folder and print what lm-eval would; no server is needed."""
    with _explained():
        from api.offline import evaluation_of, plain_json, score_tasks, split_named, write_examples
        from evals.suite import Suite

        settings = _settings()
        if limit is not None and limit <= 0:
            raise typer.BadParameter("must be above 0", param_hint="--limit")
        suite = Suite(
            objectives=(),
            split=split_named(split),
            folders=tuple(map(str, include_path or settings.tasks)),
            limit=limit,
            trusted=tuple(map(str, settings.trusted_tasks)),
            evaluation=evaluation_of(
                num_fewshot=num_fewshot,
                apply_chat_template=apply_chat_template,
                fewshot_as_multiturn=fewshot_as_multiturn,
                system_instruction=system_instruction,
            ),
        )
        names = [name for name in tasks.split(",") if name]
        found = score_tasks(folder, names, suite, dtype=dtype)
        if examples is not None:
            write_examples(examples, found.samples)
    if as_json:
        _print(plain_json(found.results))
    else:
        typer.echo(found.table)


bench_app = typer.Typer(invoke_without_command=True)
app.add_typer(bench_app, name="bench")


@bench_app.callback()
def bench(
    context: typer.Context,
    rows: Annotated[
        int, typer.Option(help="Outcomes in the longest log that is measured.", min=1001)
    ] = 100_000,
    as_json: Json = False,
) -> None:
    """Measure a worker, the log, merging and scoring; merge and score measure these alone."""
    if context.invoked_subcommand is not None:
        return
    with _explained():
        from dataclasses import asdict

        from api.benchmark import measure, measure_merging, measure_scoring
        from workers.bench.tables import machine, table

        settings = _settings()
        found = measure(settings, counts=(1000, rows))
        merging = [
            measure_merging(settings, parameters="138M", dtype=dtype)
            for dtype in ("bfloat16", "float32")
        ]
        scoring = measure_scoring(settings, dtype="bfloat16")
    if as_json:
        tables = {
            "rows": [asdict(row) for row in found],
            "merging": [m.document() for m in merging],
            "scoring": scoring.document(),
        }
        _print({"machine": machine(), **tables})
    else:
        texts = [table(found), machine(), *(m.text() for m in merging), scoring.text()]
        typer.echo("\n\n".join(texts))


@bench_app.command("racing")
def bench_racing(
    searches: Annotated[int, typer.Option(help="Simulated for each line.", min=2)] = 400,
    playground: Annotated[
        bool, typer.Option("--playground", help="Search the playground instead, flat and raced.")
    ] = False,
    optimizer: Annotated[str, typer.Option(help="That searches the playground.")] = "cma_es",
    evaluations: Annotated[int, typer.Option(help="Of each of its searches.", min=10)] = 100,
    seeds: Annotated[int, typer.Option(help="Searches of the playground, each twice.", min=1)] = 4,
    as_json: Json = False,
) -> None:
    """What scoring in rungs gains over flat scoring, simulated where the truth is known."""
    from dataclasses import asdict

    from api.benchmark import measure_racing, racing_table
    from api.paired_searches import paired_searches, paired_table

    if playground:
        with _explained():
            pairs = list(
                paired_searches(
                    _settings(), optimizer=optimizer, evaluations=evaluations, seeds=range(seeds)
                )
            )
        if as_json:
            _print({"playground": [asdict(pair) for pair in pairs]})
        else:
            typer.echo(paired_table(pairs))
        return
    found = measure_racing(searches)
    if as_json:
        lines = [{**asdict(setting), **asdict(summary)} for setting, summary in found]
        _print({"racing": lines})
    else:
        typer.echo(racing_table(found))


@bench_app.command("m2n2")
def bench_m2n2(
    seeds: Annotated[int, typer.Option(help="Evolutions of each kind.", min=1)] = 10,
    steps: Annotated[int, typer.Option(help="Of each; a thousand take a second.", min=1)] = 10_000,
    as_json: Json = False,
) -> None:
    """Repeat the M2N2 paper's digits experiment, and leave out its parts one at a time."""
    from dataclasses import asdict

    from workers.bench.digits_evolution import (
        SCRATCH,
        SPECIALISTS,
        best_single_merge,
        evolution_table,
        experiment,
    )
    from workers.bench.digits_network import digits
    from workers.bench.tables import machine

    runs = list(experiment(steps=steps, seeds=seeds))
    single = best_single_merge(digits())
    if as_json:
        found = {"runs": [asdict(run) for run in runs], "best_single_merge": single}
        _print({"machine": machine(threads=1), **found})
        return
    tables = [evolution_table(runs, start) for start in (SCRATCH, SPECIALISTS)]
    legend = (
        f"Test accuracies in percent, medians of {seeds}; spread, train and steps per second of"
        f" processor time after the last step; p of a difference to M2N2. The best single merge of"
        f" the two specialists has {100 * single:.1f}."
    )
    typer.echo("\n\n".join([*tables, legend, machine(threads=1)]))


@bench_app.command("merge")
def bench_merge(
    parameters: Annotated[
        Literal["138M", "1.1B"],
        typer.Option(help="Size of the models; the larger ones take 9 GB of disk in bfloat16."),
    ] = "138M",
    dtype: Annotated[
        Literal["bfloat16", "float32"], typer.Option(help="In which they are stored.")
    ] = "bfloat16",
    threads: Annotated[
        int | None, typer.Option(help="Threads that merge; one per core by default.", min=1)
    ] = None,
    method: Annotated[
        list[str] | None,
        typer.Option(
            help="A method to time; all but those of cost class prepared by default. Repeatable."
        ),
    ] = None,
    peer: Annotated[
        bool, typer.Option("--peer", help="Install mergekit beside, and time it on the same.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Measure merging on random models that are made on the spot, beside a plain copy."""
    with _explained():
        from api.benchmark import measure_merging
        from search.registry import UnknownName
        from workers.bench.peer import PeerFailed

        try:
            found = measure_merging(
                _settings(),
                parameters=parameters,
                dtype=dtype,
                threads=threads,
                names=method or (),
                peer=peer,
            )
        except UnknownName as error:
            _fail(str(error), USAGE)
        except PeerFailed as error:
            _fail(str(error))
    if as_json:
        _print(found.document())
    else:
        typer.echo(found.text())


@bench_app.command("search")
def bench_search(
    problem: Annotated[
        str,
        typer.Option(
            help="FILE.py:FACTORY, which makes a function of coefficients in [0, 1]^n, with n as"
            " its attribute, that returns the objectives to maximize. The file's code is run."
        ),
    ],
    optimizer: Annotated[str, typer.Option(help="Its name.")] = "auto",
    evaluations: Annotated[int, typer.Option(help="All are charged.", min=1)] = 100,
    in_flight: Annotated[int, typer.Option(help="Candidates at the same time.", min=1)] = 1,
    seed: Annotated[int, typer.Option(help="Of the optimizer.", min=0)] = 0,
    as_json: Json = False,
) -> None:
    """Run an optimizer on any Python function; print every evaluated point in order."""
    with _explained():
        from dataclasses import asdict

        from search import trial

        found = trial.evaluations(
            trial.load_problem(problem),
            optimizer,
            count=evaluations,
            in_flight=in_flight,
            seed=seed,
        )
        if as_json:
            _print({"evaluations": [asdict(evaluation) for evaluation in found]})
            return
        for evaluation in found:
            numbers = (*evaluation.objectives, *evaluation.coefficients)
            typer.echo(" ".join(f"{number:.6g}" for number in numbers))


@bench_app.command("optimizers")
def bench_optimizers(
    problem: Annotated[
        list[str] | None, typer.Option(help="Its name; all there are by default. Repeatable.")
    ] = None,
    optimizer: Annotated[
        list[str] | None,
        typer.Option(help="Its name; nine by default, among them baselines. Repeatable."),
    ] = None,
    evaluations: Annotated[int, typer.Option(help="Of each search.", min=1)] = 200,
    in_flight: Annotated[
        list[int] | None, typer.Option(help="Candidates at the same time: 1 and 8. Repeatable.")
    ] = None,
    seeds: Annotated[int, typer.Option(help="Searches of each kind.", min=1)] = 10,
    as_json: Json = False,
) -> None:
    """Hold optimizers against each other where the best front is known; medians over seeds."""
    with _explained():
        from dataclasses import asdict

        from search.bench import contest
        from workers.bench.tables import columns, machine

        found = list(
            contest.contest(
                contest.contestants(optimizer or ()),
                problems=problem or (),
                evaluated=evaluations,
                in_flight=in_flight or (1, 8),
                seeds=seeds,
            )
        )
    if as_json:
        _print({"machine": machine(), "runs": [asdict(run) for run in found]})
    else:
        typer.echo(f"{columns(*contest.contest_lines(found))}\n\n{machine()}")


@bench_app.command("score")
def bench_score(
    dtype: Annotated[
        Literal["bfloat16", "float32"], typer.Option(help="In which models are scored.")
    ] = "bfloat16",
    threads: Annotated[
        int | None, typer.Option(help="Threads that score; one per core by default.", min=1)
    ] = None,
    peer: Annotated[
        bool,
        typer.Option("--peer", help="Install mergekit beside, and time its evolutionary search."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Measure candidates per hour on random models of 9 million parameters, beside lm-eval."""
    with _explained():
        from api.benchmark import measure_scoring
        from workers.bench.peer import PeerFailed

        try:
            found = measure_scoring(_settings(), dtype=dtype, threads=threads, peer=peer)
        except PeerFailed as error:
            _fail(str(error))
    if as_json:
        _print(found.document())
    else:
        typer.echo(found.text())


# What the commands share


def _command(
    search: str,
    kind: str,
    server: str,
    token: str | None,
    *,
    evaluations: int | None = None,
    as_json: bool,
) -> None:
    from api.terminal import out, print_json, progress_text

    with _client(server, token) as client:
        view = client.command(search, kind, evaluations=evaluations)
    if as_json:
        print_json(view)
    else:
        out.out(progress_text(view))


@contextmanager
def _client(server: str, token: str | None) -> "Iterator[Client]":
    """A client whose errors end the program with a line each and the right exit code."""
    from api.client import Client

    with _explained(), Client(server, token) as client:
        yield client


@contextmanager
def _explained() -> Iterator[None]:
    """Turn the errors that a user can cause into text and an exit code."""
    from api.client import Damaged, ServerProblem, Unreachable
    from search.problems import Invalid

    try:
        yield
    except Unreachable as error:
        _fail(f"{error}. Start one with 'nichemerge serve', or name it with --server.", UNREACHABLE)
    except ServerProblem as error:
        status = error.problem.status
        code = USAGE if status in (401, 403, 404, 415, 422) else FAILED
        _fail(error.problem.detail, code, error.problem.errors)
    except Invalid as error:
        _fail(None, USAGE, error.problems)
    except (Damaged, OSError) as error:
        _fail(str(error))


def _fail(message: str | None, code: int = FAILED, problems: "Sequence[Problem]" = ()) -> None:
    from api.terminal import err, print_problems

    if message is not None:
        err.out(message)
    print_problems(problems)
    raise SystemExit(code)


def _settings(**given: Any) -> "Settings":
    """Settings from the environment, and from options that were given."""
    from pydantic import ValidationError

    from api.settings import Settings
    from search.spec import problems_of

    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        _fail(None, USAGE, problems_of(error, Settings))
        raise


def _announce(settings: "Settings", *, as_json: bool) -> None:
    address = f"http://{settings.host}:{settings.port}"
    if as_json:
        _print({"url": address, "home": str(settings.home.resolve())})
    else:
        typer.echo(f"nichemerge serves {address} from {settings.home.resolve()}")


def _read(path: Path) -> str:
    try:
        return _read_bytes(path).decode()
    except UnicodeDecodeError:
        _fail(f"{path} is not UTF-8 text; write the spec as YAML or JSON.", USAGE)
        raise


def _read_bytes(path: Path) -> bytes:
    try:
        return sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()
    except OSError as error:
        _fail(f"{path} cannot be read: {error.strerror}", USAGE)
        raise


def _check_rank(rank: int | None, *, adapter: bool) -> None:
    if rank is not None and not adapter:
        _fail("--rank is of an adapter; give --adapter, too.", USAGE)


def _relative_error(rank: int, error: float) -> str:
    return f"Relative error of the whole change at rank {rank}: {error:.2e}"


def _pair(text: str) -> tuple[str, str]:
    name, sign, folder = text.partition("=")
    if not (name and sign and folder):
        _fail(f"--model {text}: expected name=folder", USAGE)
    return name, folder


def _and_time(needs: "NeedsView | None") -> str:
    """Only an estimate; what it was made from is in the JSON, and in the doctor's report."""
    from api.terminal import duration

    if needs is None:
        return ""
    return f", very roughly {duration(needs.search_s)} on one worker of this machine"


def _catalogue(
    views: Sequence[Any], header: Sequence[str], rows: Sequence[Sequence[str]], *, as_json: bool
) -> None:
    from rich.table import Table
    from rich.text import Text

    from api.terminal import out, print_json

    if as_json:
        print_json(views)
        return
    table = Table(*header)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    out.print(table)


def _listed(files: Mapping[str, tuple[str, int]]) -> dict[str, Any]:
    return {name: {"sha256": sha256, "size_bytes": size} for name, (sha256, size) in files.items()}


def _print(document: Mapping[str, Any]) -> None:
    import json

    typer.echo(json.dumps(document, indent=2))


if __name__ == "__main__":
    main()
