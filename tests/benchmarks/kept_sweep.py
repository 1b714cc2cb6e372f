"""A sweep in a folder that outlives the bench: begun if it is not there, else continued, which only reads what has finished."""

from collections.abc import Sequence
from pathlib import Path

from tests.support.command_line import run_cli
from tuning.launch.folder import is_begun
from tuning.study import Study, load_study


def kept_sweep(study: str | Path, settings: Sequence[str], *, cwd: Path, timeout: float = 24 * 3600) -> tuple[Study, str]:
    """Bring the study's launch to its end -> the study, and what was said. SystemExit if the command fails."""
    loaded = load_study(study, list(settings))
    words: list[str | Path] = ["sweep", study, *(word for setting in settings for word in ("--set", setting))]
    if is_begun(loaded.local / loaded.name):
        words = ["resume", loaded.name, "--storage", loaded.local]
    done = run_cli(*words, cwd=cwd, timeout=timeout)
    if done.returncode:
        raise SystemExit(f"{loaded.name}: {done.stderr}")
    return loaded, done.stderr
