"""``python -m tuning.simulate``: sweeps on recorded curves, about a second each; see docs/simulator.md."""

from pathlib import Path
from typing import Annotated

import typer

from tuning.command_line import AsJson, Debug, LaunchName, Overrides, Quiet, StorageOption, StudyPath, run
from tuning.display import Display, to_json

app = typer.Typer(
    name="python -m tuning.simulate",
    help="Simulate sweeps on recorded curves: the search and the scheduler are real, but nothing is trained.",
    pretty_exceptions_enable=False,
    add_completion=False,
)
RecordPath = Annotated[Path, typer.Option("--record", help="File with the recorded curves, written by `record`.")]
ARMS = ["random", "random+asha", "random+1-epoch", "tpe", "tpe+asha", "tpe+1-epoch"]
NEIGHBOURS = (1, 2, 3, 5, 10)
MARKDOWN_WIDTH = 400
"""Wide enough for all rows: a wrapped row would not be valid Markdown."""


@app.callback()
def options(debug: Debug = False) -> None:
    """Options of all verbs."""


@app.command()
def record(
    launch: LaunchName,
    output: Annotated[Path, typer.Option(help="Parquet file to write.")],
    storage: StorageOption = "runs",
    quiet: Quiet = False,
) -> None:
    """Record the curves of a launch without pruned trials, to simulate on them."""
    from tuning.launch.reference import find_launch
    from tuning.simulation.recording import record_launch

    found, left_out = record_launch(*find_launch(launch, storage))
    found.save(output)
    rest = f", {left_out} without a complete curve left out" if left_out else ""
    Display(quiet=quiet).say(f"{output}: {len(found.trials)} trials of {found.epochs} epochs{rest}")


@app.command()
def check(study: StudyPath, file: RecordPath, set_: Overrides = None, json: AsJson = False) -> None:
    """Check how well the nearest recorded trials predict a trial, by leaving out one trial at a time."""
    from dataclasses import asdict

    from rich.console import Console

    from tuning.launch.reference import load_study
    from tuning.simulation.fitting import check_fit
    from tuning.simulation.leave_one_out import lookup_quality
    from tuning.simulation.record import Record
    from tuning.simulation.tables import quality_table

    loaded, curves = load_study(study, set_), Record.load(file)
    check_fit(loaded, curves)
    found = [lookup_quality(curves, loaded.space, neighbours=count) for count in NEIGHBOURS if count < len(curves.trials)]
    if json:
        typer.echo(to_json({"trials": len(curves.trials), "lookups": [asdict(quality) for quality in found]}))
    else:
        title = f"{len(curves.trials)} trials of {curves.launch}, each predicted by others"
        Console(width=MARKDOWN_WIDTH).print(quality_table(found, title))


@app.command()
def compare(
    study: StudyPath,
    file: RecordPath,
    set_: Overrides = None,
    arm: Annotated[
        list[str] | None,
        typer.Option(
            help="SAMPLER, SAMPLER+asha or SAMPLER+N-epoch, then +transfer or +misled, +stop-N. The first arm sets the target."
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, max=10_000, help="Number of sweeps per arm, with the seeds 1, 2, ...")] = 20,
    workers: Annotated[int, typer.Option(min=1, max=10_000, help="Number of trials that run at a time.")] = 2,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Budget of epochs per sweep. Default: that of the study's trials without pruning.")
    ] = None,
    target: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, help="Target as a quantile of the recorded test accuracies, instead of the first arm's final one."
        ),
    ] = None,
    source: Annotated[
        Path | None,
        typer.Option(help="Curves of another teacher or student, on which arms with +transfer or +misled have searched before."),
    ] = None,
    neighbours: Annotated[int, typer.Option(min=1, help="Number of recorded trials that are averaged to answer a point.")] = 5,
    json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Simulate a study's sweep with several samplers and pruning methods, over seeds, all with the same budget of epochs."""
    from rich.console import Console

    from tuning.launch.reference import load_study
    from tuning.simulation.arms import Arm
    from tuning.simulation.comparison import Comparison
    from tuning.simulation.earlier_task import earlier_task
    from tuning.simulation.fitting import check_fit, differences
    from tuning.simulation.lookup import CurveLookup
    from tuning.simulation.record import Record
    from tuning.simulation.tables import comparison_figures, comparison_table

    loaded, curves, display = load_study(study, set_), Record.load(file), Display(quiet=quiet)
    check_fit(loaded, curves)
    if odd := differences(loaded, curves):
        display.say(f"the record was made with other settings, which its curves reflect: {', '.join(odd)}")
    budget = epochs or loaded.search.num_trials * loaded.config.epochs
    studies = {one: one.load(study, set_ or []) for one in map(Arm.parse, arm or ARMS)}
    lookup = CurveLookup(curves, loaded.space, neighbours=neighbours)
    earlier = earlier_task(source, loaded, list(studies), neighbours=neighbours)
    comparison = Comparison(curves, lookup, epochs=budget, workers=workers, objective=loaded.objective, earlier=earlier)
    found = comparison.run(
        studies, range(1, seeds + 1), quantile=target, track=lambda runs, total: display.track("sweeps", runs, total)
    )
    if json:
        about = {"epochs": budget, "workers": workers, "seeds": seeds, "best_test_accuracy": comparison.best}
        typer.echo(to_json(about | {"arms": comparison_figures(found)}))
    else:
        title = (
            f"{loaded.name} on {len(curves.trials)} trials of {curves.launch}: {budget} epochs, {workers} at a time, {seeds} seeds"
        )
        Console(width=MARKDOWN_WIDTH).print(comparison_table(found, title))


def main() -> None:
    """Run a verb."""
    run(app)


if __name__ == "__main__":
    main()
