"""How long the report of a study with 200 trials takes, from the command line, and how large its page is.

    python -m tests.benchmarks.report

The study was never run: `tests.support.made_sweep` writes its records into a store on the local disk.
"""

import tempfile
import time
from pathlib import Path

import typer
import yaml

from tests.support.command_line import run_cli
from tests.support.made_sweep import made_store
from tuning.study import load_study

STUDY = Path("search_spaces/digits.yaml")


def main(num_trials: int = 200, epochs: int = 27) -> None:
    """Make the store and the report, and print seconds and megabytes."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        study = load_study(STUDY, [f"storage={folder / 'runs'}", f"config.epochs={epochs}"])
        made_store(study, num_trials=num_trials, epochs=epochs)
        file = folder / "study.yaml"
        file.write_text(yaml.safe_dump(dict(study.source)))
        started = time.perf_counter()
        done = run_cli("report", file, "--output", folder / "page", cwd=folder)
        elapsed = time.perf_counter() - started
        if done.returncode:
            raise SystemExit(done.stderr)
        size = (folder / "page" / "report.html").stat().st_size
        print(f"{num_trials} trials of up to {epochs} epochs: report in {elapsed:.1f} s, page of {size / 1e6:.2f} MB")


if __name__ == "__main__":
    typer.run(main)
