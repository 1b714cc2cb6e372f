"""``python -m tuning.simulate``: sweeps on recorded curves, a second or so each; see docs/simulator.md."""

from pathlib import Path
from typing import Annotated

import typer

from tuning.command_line import AsJson, Debug, LaunchName, Overrides, Quiet, StorageOption, StudyPath, run
from tuning.display import Display, to_json

app = typer.Typer(
    name="python -m tuning.simulate",
    help="Sweeps simulated on recorded curves: the search and the scheduler are real, nothing is trained.",
    pretty_exceptions_enable=False,
    add_completion=False,
)
RecordPath = Annotated[Path, typer.Option("--record", help="The curves: a file that `record` has written.")]
ARMS = ["random", "random+asha", "random+1-epoch", "tpe", "tpe+asha", "tpe+1-epoch"]
NEIGHBOURS = (1, 2, 3, 5, 10)
MARKDOWN_WIDTH = 400
"""A row cut into lines would be no Markdown."""


@app.callback()
def options(debug: Debug = False) -> None:
    """Options of every verb."""


@app.command()
def record(
    launch: LaunchName,
    output: Annotated[Path, typer.Option(help="The file to write (Parquet).")],
    storage: StorageOption = "runs",
    quiet: Quiet = False,
) -> None:
    """Write the curves of a launch's trials, none of which was pruned, as a record to simulate on."""
    from tuning.launch.reference import find_launch
    from tuning.simulation.recording import record_launch

    found, left_out = record_launch(*find_launch(launch, storage))
    found.save(output)
    rest = f", {left_out} without a whole curve left out" if left_out else ""
    Display(quiet=quiet).say(f"{output}: {len(found.trials)} trials of {found.epochs} epochs{rest}")


@app.command()
def check(study: StudyPath, file: RecordPath, set_: Overrides = None, json: AsJson = False) -> None:
    """How well the nearest recorded trials foretell a trial: each is looked up as if it were not there."""
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
        title = f"{len(curves.trials)} trials of {curves.launch}, each foretold by others"
        Console(width=MARKDOWN_WIDTH).print(quality_table(found, title))


@app.command()
def compare(
    study: StudyPath,
    file: RecordPath,
    set_: Overrides = None,
    arm: Annotated[
        list[str] | None,
        typer.Option(
            help="SAMPLER, SAMPLER+asha or SAMPLER+N-epoch, then +transfer or +misled, +stop-N; the first sets the target."
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, max=10_000, help="Sweeps of each arm, with the seeds 1, 2, ...")] = 20,
    workers: Annotated[int, typer.Option(min=1, max=10_000, help="Trials at a time.")] = 2,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Budget of each sweep; default: what the study's trials take to the end.")
    ] = None,
    target: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, help="A quantile of the record's test accuracies, instead of what the first arm holds at its end."
        ),
    ] = None,
    source: Annotated[
        Path | None,
        typer.Option(help="Curves of another teacher or student, which arms with +transfer or +misled have searched before."),
    ] = None,
    neighbours: Annotated[int, typer.Option(min=1, help="Recorded trials that answer a point together.")] = 5,
    json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Simulate a study's sweep with several samplers and ways to prune, over seeds, with the same budget of epochs."""
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
        display.say(f"the record is of other settings, and so are its curves: {', '.join(odd)}")
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
