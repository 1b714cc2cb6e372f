"""``python -m tuning.simulate``: sweeps on recorded curves, in seconds each; see docs/simulator.md."""

from pathlib import Path
from typing import Annotated

import typer

from tuning.command_line import Debug, Quiet, run
from tuning.display import Display

app = typer.Typer(
    name="python -m tuning.simulate",
    help="Sweeps simulated on recorded curves: real search and scheduler, no training.",
    pretty_exceptions_enable=False,
    add_completion=False,
)


@app.callback()
def options(debug: Debug = False) -> None:
    """Options of every verb."""


@app.command()
def record(
    launch: Annotated[str, typer.Argument(help="A launch that pruned nothing: its folder's name under the storage root.")],
    output: Annotated[Path, typer.Option(help="The file to write (Parquet).")],
    storage: Annotated[str, typer.Option(help="The folder with its records, or the URI of the study's storage.")] = "runs",
    quiet: Quiet = False,
) -> None:
    """Write the curves of a launch's trials as a record to simulate on."""
    from tuning.simulation.recording import record_launch

    found, left_out = record_launch(storage, launch)
    found.save(output)
    rest = f", {left_out} without a whole curve left out" if left_out else ""
    Display(quiet=quiet).say(f"{output}: {len(found.trials)} trials of {found.epochs} epochs{rest}")


if __name__ == "__main__":
    run(app)
