"""The command line: verbs that take a study or a launch, and few flags; all settings are in the study file."""

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer
from rich.console import Console

from cpsc.errors import ConfigError, CpscError
from tuning.command_line import (
    ArgumentError,
    AsJson,
    Debug,
    LaunchName,
    Overrides,
    Quiet,
    StorageOption,
    StudyPath,
    argument_message,
    complete_study,
    run,
)
from tuning.display import Display, to_json
from tuning.redaction import redact

if TYPE_CHECKING:
    from tuning.init import Ask
    from tuning.results import SweepSummary

app = typer.Typer(
    name="cpsc-tune",
    help="Hyperparameter search for data-free knowledge distillation, without data.",
    pretty_exceptions_enable=False,
    invoke_without_command=True,
)


Force = Annotated[bool, typer.Option("--force", help="Continue even if the teacher or its probe set is refused.")]
DIFFERENT = 1
ADDRESS = re.compile(r"auto|[A-Za-z0-9_.-]+:[0-9]{1,5}")


def main() -> None:
    """Entry point of ``cpsc-tune``."""
    run(app)


def _check_address(address: str | None) -> None:
    if address is not None and not ADDRESS.fullmatch(address):
        raise ConfigError(f"--address: must be auto, or host:port as seen from a machine of the cluster, got {address!r}")


def _check_output(folder: Path) -> None:
    from tuning.storage import Storage

    try:
        Storage(str(folder)).check()
    except ConfigError as error:
        raise ConfigError(f"--output: {folder} cannot be written, name a writable folder") from error


def _show(summary: "SweepSummary", *, json: bool, quiet: bool) -> None:
    """Print what the sweep found. Raise CpscError if every trial failed, so that a script does not take that for success."""
    from tuning.outcome import Outcome
    from tuning.report.as_json import sweep_figures
    from tuning.report.console import print_summary

    if json:
        typer.echo(to_json(sweep_figures(summary)))
    elif not quiet:
        print_summary(summary, Console(emoji=False))
    trials = summary.launch.trials
    if trials and all(trial.outcome is Outcome.FAILED for trial in trials):
        raise CpscError(f"every trial failed, the first one with: {trials[0].reason}")


def _print_version(wanted: bool) -> None:
    from importlib.metadata import version

    if wanted:
        typer.echo(f"cpsc-tune {version('cpsc-tune')}")
        raise typer.Exit


Version = Annotated[bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)]


@app.callback()
def options(context: typer.Context, debug: Debug = False, version: Version = False) -> None:
    """Hyperparameter search for data-free knowledge distillation, without data."""
    del debug, version  # `run` reads --debug from sys.argv, since it handles the errors; --version has its own callback
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command()
def init(
    file: Annotated[Path, typer.Argument(metavar="TEACHER", help="The teacher's weights: written by torch.save, or safetensors.")],
    output: Annotated[Path | None, typer.Option(help="The study file to write; default: next to TEACHER, with its name.")] = None,
    method: Annotated[str | None, typer.Option(help="The distillation method; default: cpsc.")] = None,
    student: Annotated[
        str | None, typer.Option(help="The student's network, e.g. wrn_16_1; default: one smaller than the teacher.")
    ] = None,
    normalisation: Annotated[
        str | None, typer.Option(help="TEACHER's input constants: a name, e.g. cifar10, or '{mean: [...], std: [...]}'.")
    ] = None,
    image_size: Annotated[int | None, typer.Option(help="Height and width of the teacher's images in pixels.")] = None,
    factory: Annotated[str | None, typer.Option(help="The function that builds your own network, e.g. network:build.")] = None,
    classes: Annotated[int | None, typer.Option(help="Number of classes, if the weights do not tell.")] = None,
    channels: Annotated[int | None, typer.Option(help="Number of image channels, if the weights do not tell.")] = None,
    variant: Annotated[str | None, typer.Option(help="Which network, if several have the same parameter names and shapes.")] = None,
    weights: Annotated[str | None, typer.Option(help="Which network, if the file holds several.")] = None,
    minutes: Annotated[float, typer.Option(min=1, help="Roughly how long the search may take on this machine.")] = 60,
    quiet: Quiet = False,
    force: Annotated[
        bool, typer.Option("--force", help="Replace an existing study file; accept a network that does not fit the weights.")
    ] = False,
) -> None:
    """Inspect a teacher's weights, ask for what they do not tell, and write a study file for them and this machine."""
    from cpsc.presets import DEFAULT_METHOD
    from tuning.init import parse_constants, write_first_study
    from tuning.study.user_code import look_in

    said = {
        "weights": weights,
        "factory": factory,
        "num_classes": classes,
        "channels": channels,
        "image_size": image_size,
        "normalisation": None if normalisation is None else parse_constants(normalisation),
        "variant": variant,
    }
    look_in([(output or file).parent])
    given = {name: value for name, value in said.items() if value is not None}
    written = write_first_study(
        file,
        output,
        given,
        _ask(),
        Display(quiet=quiet),
        method=method or DEFAULT_METHOD,
        student=student,
        minutes=minutes,
        force=force,
    )
    if not quiet:
        typer.echo(written.summary)


def _ask() -> "Ask | None":
    """The function that asks the user at the terminal; None without a terminal."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return None
    return lambda text, default: str(typer.prompt(text, default=default, err=True))


@app.command()
def teacher(study: StudyPath, set_: Overrides = None, quiet: Quiet = False, force: Force = False) -> None:
    """Train the study's teacher, or load and check it."""
    from cpsc.data import load_dataset
    from tuning.launch.reference import load_study
    from tuning.trial.assets import obtain_teacher, open_storage
    from tuning.trial.resources import study_device

    loaded = load_study(study, set_)
    storage = open_storage(loaded)
    display = Display(quiet=quiet)
    dataset = load_dataset(loaded.dataset, say=display.say) if loaded.dataset else None
    obtain_teacher(loaded.teacher, dataset, storage, study_device(loaded), display, force=force)


@app.command()
def probe(study: StudyPath, set_: Overrides = None, quiet: Quiet = False, force: Force = False) -> None:
    """Make or load the teacher's probe set, and save it as a picture."""
    from cpsc.pictures import save_grid
    from tuning.launch.reference import load_study
    from tuning.trial import prepare
    from tuning.trial.assets import open_storage, probe_name

    loaded = load_study(study, set_)
    display = Display(quiet=quiet)
    assets = prepare(loaded, display, force=force)
    storage = open_storage(loaded)
    name = probe_name(assets.teacher, assets.fit(loaded).probe, storage).replace(".pt", ".png")
    with storage.writing(name) as path:
        save_grid(assets.probe.by_class(columns=8), path)
    display.say(f"picture, one row per class: {storage}/{name}")


@app.command()
def trial(
    study: StudyPath,
    set_: Overrides = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Stop after this many epochs.")] = None,
    output: Annotated[Path | None, typer.Option(help="Folder for the checkpoint and the sample grid.")] = None,
    json: AsJson = False,
    quiet: Quiet = False,
    force: Force = False,
) -> None:
    """Run one trial in this process, without Ray: the study's first start point, with the values of --set."""
    from tuning.launch.reference import load_study
    from tuning.trial.local import run_trial, split_point
    from tuning.trial.trainable import loggable_metrics

    point, overrides = split_point(study, set_ or [])
    loaded = load_study(study, overrides)
    if output is not None:
        _check_output(output)
    results = run_trial(loaded, loaded.first_point | point, Display(quiet=quiet), max_epochs=epochs, output=output, force=force)
    if json:
        typer.echo(to_json([loggable_metrics(result) for result in results]))


@app.command()
def sweep(
    study: StudyPath,
    set_: Overrides = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would run and what it would cost; start nothing.")] = False,
    address: Annotated[str | None, typer.Option(help="A Ray cluster, e.g. auto; default: this machine.")] = None,
    json: AsJson = False,
    quiet: Quiet = False,
    force: Force = False,
) -> None:
    """Run a study: search, prune, record every trial, register the best student."""
    from tuning.launch.reference import load_study

    loaded = load_study(study, set_)
    _check_address(address)
    if dry_run:
        from tuning.sweep import describe, estimate_sweep, plan_figures

        estimate = estimate_sweep(loaded)
        typer.echo(to_json(plan_figures(loaded, estimate)) if json else describe(loaded, estimate))
        return
    from tuning.api import run_study

    _show(run_study(loaded, address=address, quiet=quiet, force=force), json=json, quiet=quiet)


@app.command()
def resume(
    name: LaunchName,
    storage: StorageOption = "runs",
    num_trials: Annotated[int | None, typer.Option(min=1, help="Extend the study to this many trials.")] = None,
    set_: Overrides = None,
    address: Annotated[str | None, typer.Option(help="A Ray cluster, e.g. auto; default: this machine.")] = None,
    json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Continue a launch that was killed, interrupted or has used up its budget."""
    from tuning.api import resume_study
    from tuning.launch.reference import find_launch

    _check_address(address)
    storage, name = find_launch(name, storage)
    overrides = [*(set_ or []), *([f"search.num_trials={num_trials}"] if num_trials else [])]
    summary = resume_study(name, storage, overrides, address=address, quiet=quiet)
    _show(summary, json=json, quiet=quiet)


@app.command()
def enqueue(
    name: LaunchName,
    values: Annotated[list[str], typer.Argument(help="The point: path=value for each parameter, e.g. weights.contrast=0.5.")],
    storage: StorageOption = "runs",
) -> None:
    """Add a point to a launch, even while it runs; the search proposes it next. Omitted parameters keep the config's value."""
    from tuning.launch.reference import find_launch
    from tuning.study.overrides import parse_assignments
    from tuning.sweep.enqueue import enqueue_point

    typer.echo(enqueue_point(*find_launch(name, storage), parse_assignments(values, word="enqueue")))


@app.command()
def finish(
    name: LaunchName,
    storage: StorageOption = "runs",
) -> None:
    """End a launch early, even while it runs, with the best student so far: running trials finish, no new ones start."""
    from tuning.launch.reference import find_launch
    from tuning.sweep.finish import finish_launch

    typer.echo(finish_launch(*find_launch(name, storage)))


@app.command()
def report(
    study: StudyPath,
    set_: Overrides = None,
    launch: Annotated[str | None, typer.Option(help="The launch of the study to report; default: the latest.")] = None,
    by: Annotated[
        str | None, typer.Option(help="Parameters to compare trials by, separated by commas; default: those of a grid.")
    ] = None,
    target: Annotated[float, typer.Option(min=0, max=1, help="Accuracy up to which a comparison counts epochs.")] = 0.95,
    output: Annotated[
        Path | None, typer.Option(help="Folder for report.html and the tables; default: report/ in the launch's folder.")
    ] = None,
    page: Annotated[bool, typer.Option("--page/--no-page", help="Write report.html and the Parquet tables, or only print.")] = True,
    wandb: Annotated[
        str | None, typer.Option(metavar="PROJECT", help="Also export to this Weights & Biases project, or ENTITY/PROJECT.")
    ] = None,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Also write event files for TensorBoard.")] = False,
    json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Print what a launch found (leaderboard, blind choice and its regret), and write a page with figures and tables."""
    from tuning.launch.reference import launch_of, load_study
    from tuning.report import read_criteria, read_launch, write_report
    from tuning.report.as_json import criteria_figures, launch_figures
    from tuning.report.console import print_comparison, print_criteria, print_report
    from tuning.report.exports import export_launch
    from tuning.report.files import report_folder
    from tuning.report.seed_table import compared_by_itself
    from tuning.report.wandb_runs import parse_destination

    loaded = load_study(study, set_)
    destination = None if wandb is None else parse_destination(wandb)
    if output is not None:
        _check_output(output)
    display = Display(quiet=quiet)
    client, found = read_launch(loaded, launch or launch_of(study), display)
    criteria = read_criteria(client, found, display)
    if json:
        typer.echo(to_json(launch_figures(found) | criteria_figures(criteria)))
    elif not quiet:
        print_report(found, list(loaded.space), Console())
        print_criteria(found, criteria, Console())
        if compared := by.split(",") if by else compared_by_itself(loaded):
            print_comparison(found, compared, Console(), target=target)
    if page:
        written = write_report(loaded, found, criteria, client, output or report_folder(loaded, found), display)
        display.say(f"page: {written.page}, with the tables next to it")
        if written.refusal:
            display.say(f"they are not uploaded to MLflow: {written.refusal}")
    export_launch(loaded, found, client, display, folder=output, wandb=destination, tensorboard=tensorboard)


@app.command()
def compare(
    studies: Annotated[
        list[str],
        typer.Argument(help="Studies (their latest launch, or STUDY@LAUNCH) or launches.", autocompletion=complete_study),
    ],
    set_: Overrides = None,
    output: Annotated[Path | None, typer.Option(help="Folder for compare.html and the launches' tables.")] = None,
    json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Compare two or more launches in one table and, with --output, on a page with the same axes."""
    from tuning.report import read_named
    from tuning.report.comparison import comparison_of_launches, comparison_rows, differences_of_launches
    from tuning.report.console import MARKDOWN_WIDTH
    from tuning.report.files import write_comparison_files

    if output is not None:
        _check_output(output)
    display = Display(quiet=quiet)
    launches = read_named(studies, set_ or [], display)
    if json:
        typer.echo(to_json(comparison_rows(launches)))
    elif not quiet:
        console = Console(width=MARKDOWN_WIDTH)
        console.print(comparison_of_launches(launches), differences_of_launches(launches))
    if output is not None:
        display.say(f"page: {write_comparison_files(launches, output)}, with the tables next to it")


@app.command()
def replay(
    run_id: Annotated[str, typer.Argument(help="The trial: its run id as shown in MLflow's UI, or LAUNCH:NUMBER.")],
    storage: StorageOption = "runs",
    tracking: Annotated[str | None, typer.Option(help="Its MLflow store; default: that of the launches in STORAGE.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Stop after this epoch; default: the last one on record.")] = None,
    from_checkpoint: Annotated[
        str | None, typer.Option(help="Start from a kept checkpoint: last, best or an epoch; default: from scratch.")
    ] = None,
    set_: Overrides = None,
    profile: Annotated[Path | None, typer.Option(help="Write a trace of training steps for Chrome or Perfetto (.json).")] = None,
    profile_steps: Annotated[int, typer.Option(min=1, max=10_000, help="Number of optimizer steps in the trace.")] = 30,
    debugger: Annotated[
        bool, typer.Option("--debugger", help="Stop in the debugger at the first step, and if an epoch raises.")
    ] = False,
    json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Run a recorded trial again on this machine and compare; exits with 1 if its numbers differ and no setting was changed."""
    from bdb import BdbQuit

    from tuning.launch.reference import find_trial_of_launch
    from tuning.replay import ReplayOptions, replay_trial

    storage, run_id = find_trial_of_launch(run_id, storage)
    options = ReplayOptions(
        epochs=epochs,
        from_checkpoint=from_checkpoint,
        assignments=set_ or [],
        profile=profile,
        profile_steps=profile_steps,
        debugger=debugger,
    )
    try:
        replayed = replay_trial(run_id, options, Display(quiet=quiet), storage=storage, tracking=tracking)
    except BdbQuit as quit_:  # raised when the user leaves the debugger
        raise typer.Abort from quit_
    if json:
        typer.echo(to_json({"as_recorded": replayed.is_as_recorded, "verdict": replayed.verdict}))
    elif not quiet:
        for text in filter(None, (replayed.table, replayed.verdict)):
            typer.echo(text)
    if not replayed.is_as_recorded:
        raise typer.Exit(DIFFERENT)


@app.command()
def export(
    study: StudyPath,
    output: Annotated[Path, typer.Option(help="Folder for the files; an earlier export in it is replaced.")],
    run: Annotated[
        str | None,
        typer.Option(help="A trial's run id, or LAUNCH:NUMBER; default: the launch's best trial, or the study's champion."),
    ] = None,
    at: Annotated[
        str | None,
        typer.Option(help="The latest launch's best student within a cost limit: macs=2e7, parameters=, bytes= or latency_ms=."),
    ] = None,
    formats: Annotated[
        str | None,
        typer.Option(help="weights, program, safetensors, onnx, separated by commas; default: all that are possible."),
    ] = None,
    set_: Overrides = None,
    quiet: Quiet = False,
) -> None:
    """Write a study's best student for use without this package: weights, torch.export program, ONNX; each is verified."""
    from tuning.export import export_student, parse_at, parse_formats
    from tuning.launch.reference import launch_of, load_study
    from tuning.results.from_journal import chosen_trial

    chosen = parse_formats(formats)
    if run is not None and at is not None:
        raise ConfigError("--at: chooses a trial, and so does --run; pass only one of them")
    within = parse_at(at) if at else None
    loaded = load_study(study, set_)
    _check_output(output)
    if launch_of(study) and run is None and at is None:
        run = chosen_trial(study.parent)
    for line in export_student(loaded, output, Display(quiet=quiet), run_id=run, at=within, formats=chosen):
        if not quiet:
            typer.echo(line)


@app.command()
def ui(
    study: StudyPath,
    set_: Overrides = None,
    port: Annotated[int, typer.Option(min=1, max=65535)] = 5000,
) -> None:
    """Open MLflow's UI, reachable from this machine only, on the store that the study's sweeps write to."""
    from tuning.launch.reference import load_study
    from tuning.tracking.client import existing_store_uri
    from tuning.tracking.ui_server import serve_ui
    from tuning.tracking.ui_view import first_page

    loaded = load_study(study, set_)
    uri = existing_store_uri(loaded)
    if loaded.tracking.uri:
        typer.echo(f"the study's tracking server has its own UI: {redact(uri)}")
        return
    raise typer.Exit(serve_ui(uri, port, first_page(uri, loaded.name), typer.echo))


@app.command(name="list")
def list_launches(
    study: Annotated[
        Path | None, typer.Argument(help="Only launches of this study, or this launch alone.", autocompletion=complete_study)
    ] = None,
    storage: StorageOption = "runs",
    json: AsJson = False,
) -> None:
    """List launches: state, trials done, best result, last sign of life."""
    from tuning.results.launch_list import find_overviews, overview_figures, overview_table

    found = find_overviews(storage, study)
    typer.echo(to_json([overview_figures(overview) for overview in found]) if json else overview_table(found))


@app.command()
def studies() -> None:
    """List the studies that come with the package: the name, which every verb accepts as STUDY, the method, and a description."""
    from tuning.study.packaged_studies import list_studies, studies_table

    typer.echo(studies_table(list_studies()))


@app.command(name="check-cluster")
def check_cluster(
    file: Annotated[Path, typer.Argument(help="A file for `ray up`, `sbatch`, or KubeRay (a RayJob).")] = Path("cluster.yaml"),
) -> None:
    """Check a cluster file without starting anything: a `ray up` configuration, a Slurm batch script or a RayJob for Kubernetes."""
    from tuning.cluster.cluster_file import check_cluster_file

    for doubt in check_cluster_file(file, parse_command_line):
        typer.echo(doubt)
    typer.echo(f"{file}: in order")


def parse_command_line(words: Sequence[str]) -> dict[str, Any]:
    """Parse the words after ``cpsc-tune`` -> {"verb": verb} and the parameters' values by name, as written.

    ConfigError if no verb accepts them.
    """
    from tuning.study.near_misses import hint

    verbs = cast(Any, typer.main.get_command(app)).commands
    verb, *arguments = words or [""]
    if verb not in verbs:
        raise ConfigError(f"no such command {verb!r}{hint(verb, verbs)}")
    command = verbs[verb]
    context = typer.Context(command, info_name=verb)
    try:
        given, extra, _ = command.make_parser(context).parse_args(list(arguments))
    except ArgumentError as error:
        raise ConfigError(argument_message(error, app)) from error
    missing = [parameter.name for parameter in command.params if parameter.required and given.get(parameter.name) is None]
    if missing or extra:
        raise ConfigError(f"missing argument {missing[0]}" if missing else f"unexpected extra argument {extra[0]}")
    defaults = {parameter.name: parameter.default for parameter in command.params}
    return {"verb": verb} | defaults | {name: value for name, value in given.items() if value is not None}
