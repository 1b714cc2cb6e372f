"""A measurement in its own process and folder, so that earlier measurements do not affect it."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any


def in_a_process(module: str, *words: object) -> dict[str, Any]:
    """Run ``python -m module words`` in an empty folder -> the JSON object on the last line that it prints."""
    root = Path(__file__).parents[2]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")]))}
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        command = [sys.executable, "-m", module, *map(str, words)]
        done = subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))
