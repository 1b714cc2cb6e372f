"""The command line: file paths and few flags; every knob stands in the study file."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from cpsc.errors import CpscError
from tuning.progress import Display

app = typer.Typer(
    name="cpsc-tune",
    help="Hyperparameter search for data-free knowledge distillation, without data.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
StudyPath = Annotated[Path, typer.Argument(help="The study file (YAML).")]
Overrides = Annotated[list[str] | None, typer.Option("--set", help="Override: path=value, e.g. weights.contrast=0.5.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print errors only.")]
Force = Annotated[bool, typer.Option("--force", help="Use a teacher below min_accuracy all the same.")]
USAGE_ERROR = 2
INTERRUPTED = 130


def main() -> None:
    """Run a verb; a mistake of the user is one line on stderr and exit status 2. CPSC_DEBUG=1 shows the traceback."""
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except CpscError as error:
        if os.environ.get("CPSC_DEBUG"):
            raise
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(USAGE_ERROR)


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks instead of one-line errors.")] = False,
) -> None:
    """Options of every verb."""
    if debug:
        os.environ["CPSC_DEBUG"] = "1"


@app.command()
def teacher(study: StudyPath, set_: Overrides = None, quiet: Quiet = False, force: Force = False) -> None:
    """Train, or load and check, the study's teacher."""
    from cpsc.data import load_dataset
    from tuning.assets import check_writable, obtain_teacher, study_device
    from tuning.config import load_study

    loaded = load_study(study, set_)
    check_writable(loaded.storage)
    dataset = load_dataset(loaded.dataset) if loaded.dataset else None
    obtain_teacher(loaded.teacher, dataset, loaded.storage, study_device(loaded), Display(quiet=quiet), force=force)


@app.command()
def probe(study: StudyPath, set_: Overrides = None, quiet: Quiet = False, force: Force = False) -> None:
    """Make, or load, the teacher's probe set, and draw it as a picture."""
    from cpsc.pictures import save_grid
    from tuning.assets import prepare
    from tuning.config import load_study

    loaded = load_study(study, set_)
    display = Display(quiet=quiet)
    assets = prepare(loaded, display, force=force)
    path = loaded.storage / "probes" / f"{assets.teacher.digest[:12]}-{loaded.probe.digest}.png"
    save_grid(assets.probe.by_class(columns=8), path)
    display.say(f"picture, a row a class: {path}")


@app.command()
def trial(
    study: StudyPath,
    set_: Overrides = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Stop after so many epochs.")] = None,
    output: Annotated[Path | None, typer.Option(help="Folder for the checkpoint and the sample grid.")] = None,
    quiet: Quiet = False,
    force: Force = False,
) -> None:
    """Run one trial in this process, without Ray: the study's first starting point, with --set laid over it."""
    from tuning.config import load_study
    from tuning.local import run_trial, split_point

    point, overrides = split_point(study, set_ or [])
    loaded = load_study(study, overrides)
    run_trial(loaded, loaded.first_point | point, Display(quiet=quiet), max_epochs=epochs, output=output, force=force)


@app.command()
def sweep(
    study: StudyPath,
    set_: Overrides = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the resolved study and its cost, start nothing.")] = False,
    address: Annotated[str | None, typer.Option(help="A Ray cluster, e.g. auto; default: this machine.")] = None,
    quiet: Quiet = False,
    force: Force = False,
) -> None:
    """Run a study: search, prune, record every trial, register the best student."""
    from tuning.config import load_study

    loaded = load_study(study, set_)
    if dry_run:
        from tuning.dry_run import describe

        typer.echo(describe(loaded))
        return
    from tuning.report import print_summary
    from tuning.sweep import run_sweep

    summary = run_sweep(loaded, Display(quiet=quiet), address=address, force=force)
    if not quiet:
        print_summary(summary, study, Console())


@app.command()
def resume(
    name: Annotated[str, typer.Argument(help="The launch: its folder's name under the storage root.")],
    storage: Annotated[Path, typer.Option(help="The study's storage root.")] = Path("runs"),
    num_trials: Annotated[int | None, typer.Option(min=1, help="Extend the study to so many trials.")] = None,
    set_: Overrides = None,
    address: Annotated[str | None, typer.Option(help="A Ray cluster, e.g. auto; default: this machine.")] = None,
    quiet: Quiet = False,
) -> None:
    """Go on with a sweep that was killed, interrupted or has spent its budget."""
    from tuning.report import print_summary
    from tuning.sweep import resume_sweep

    overrides = [*(set_ or []), *([f"search.num_trials={num_trials}"] if num_trials else [])]
    summary = resume_sweep(storage, name, Display(quiet=quiet), overrides=overrides, address=address)
    if not quiet:
        print_summary(summary, storage / name / "study.yaml", Console())


@app.command()
def report(
    study: StudyPath,
    set_: Overrides = None,
    launch: Annotated[str | None, typer.Option(help="Which launch of the study; default: the latest.")] = None,
) -> None:
    """Leaderboard, what pruning saved, rank correlation and regret of the blind choice, from the MLflow store."""
    from mlflow import MlflowClient

    from tuning.config import load_study
    from tuning.report import print_report
    from tuning.results import load_launch
    from tuning.tracking import existing_store_uri

    loaded = load_study(study, set_)
    client = MlflowClient(tracking_uri=existing_store_uri(loaded))
    print_report(load_launch(client, loaded.name, launch), list(loaded.space), Console())


@app.command()
def ui(
    study: StudyPath,
    set_: Overrides = None,
    port: Annotated[int, typer.Option(min=1, max=65535)] = 5000,
) -> None:
    """Open MLflow's UI, on this machine only, on the store that the study's sweeps write."""
    from tuning.config import load_study
    from tuning.tracking import existing_store_uri

    loaded = load_study(study, set_)
    uri = existing_store_uri(loaded)
    if loaded.tracking.uri:
        typer.echo(f"the study's tracking server has its own UI: {uri}")
        return
    typer.echo(f"http://127.0.0.1:{port} shows {uri}; stop it with Ctrl-C")
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", uri, "--host", "127.0.0.1", "--port", str(port)]
    os.execv(sys.executable, command)
