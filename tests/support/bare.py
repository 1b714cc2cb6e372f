"""A process in which nothing of this project, nor what it drives, can be imported."""

import subprocess
import sys
from pathlib import Path

FOREIGN = ("cpsc", "tuning", "ray", "mlflow", "optuna", "pydantic")


def run_bare(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run `code` in such a process, in `folder`."""
    poison = f"import sys\nfor name in {FOREIGN!r}: sys.modules[name] = None\nsys.path.insert(0, '')\n"
    return subprocess.run(
        [sys.executable, "-c", poison + code], cwd=folder, capture_output=True, text=True, check=False, timeout=240
    )
