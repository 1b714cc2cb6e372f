"""Sweeps that report to a server that gives wrong answers now and then: ``python -m tests.benchmarks.misbehaving --help``.

Each seed is a real sweep through a proxy whose wrong answers are drawn with that seed. With ``--kill``, the driver is also killed
once the server has done a random step of the registration, and resumed. A sweep passes if it ends with status 0 and every run,
metric, artifact, model, version and alias exists exactly once.
"""

import argparse
import random
import signal
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from mlflow import MlflowClient

from tests.support.killing import start
from tests.support.misbehaving import MisbehavingProxy, misbehaving, not_once
from tests.support.servers import MlflowServer, mlflow_server
from tests.support.studies import tiny_study, write_study

DELAYS_S = (1.0, 12.0)
"""Delays below and above the ten seconds that the client waits."""
STEPS = ("mlflow/logged-models", "runs/outputs", "registered-models/create", "model-versions/create", "registered-models/alias")


class Round:
    """One sweep through a misbehaving proxy, and its result."""

    def __init__(self, folder: Path, server: MlflowServer, seed: int, share: float, *, kill: bool, timeout_s: float) -> None:
        self._folder = folder
        self._server = server
        self._seed = seed
        self._share = share
        self._victim = random.Random(seed).choice(STEPS) if kill else ""
        self._timeout_s = timeout_s
        self._driver: subprocess.Popen[bytes] | None = None
        self._killed = False
        self.name = f"seed-{seed}"
        self.seconds = 0.0
        self.given = ""

    def run(self) -> list[str]:
        """Run the sweep -> what is wrong; empty if nothing is."""
        options = {"p": self._share, "seed": self._seed, "delays_s": DELAYS_S, "watch": self._watch}
        with misbehaving(self._server, **options) as proxy:
            changes = {"name": self.name, "storage": str(self._folder / "runs"), "tracking": {"uri": proxy.uri}}
            study = write_study(self._folder / f"{self.name}.yaml", tiny_study() | changes)
            started = time.monotonic()
            status = self._drive("sweep", study)
            if self._killed:
                status = self._drive("resume", self.name, "--storage", str(self._folder / "runs"))
            self.seconds = time.monotonic() - started
            self.given = _told(proxy)
        wrong = [] if status == 0 else [f"status {status}"]
        wrong += ["nobody was killed"] if self._victim and not self._killed else []
        return wrong + not_once(MlflowClient(tracking_uri=self._server.uri), self._folder / "runs" / self.name)

    def _drive(self, *arguments: str | Path) -> int | None:
        self._driver = start(*arguments, cwd=self._folder)
        try:
            return self._driver.wait(self._timeout_s)
        except subprocess.TimeoutExpired:
            self._driver.kill()
            self._driver.wait()
            return None

    def _watch(self, method: str, path: str, number: int) -> None:
        if self._victim and path.endswith(self._victim) and method == "POST" and not self._killed:
            self._killed = True
            assert self._driver is not None
            self._driver.send_signal(signal.SIGKILL)


def _told(proxy: MisbehavingProxy) -> str:
    wrong = proxy.given.total() - proxy.given["well"]
    return f"{wrong} of {proxy.given.total()} answers wrong"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--share", type=float, default=0.1, help="share of wrong answers")
    parser.add_argument("--kill", action="store_true")
    parser.add_argument("--timeout-s", type=float, default=600)
    options = parser.parse_args()
    rows: list[tuple[str, Any]] = []
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder_name, mlflow_server(Path(folder_name) / "s") as server:
        server.start()
        for seed in range(options.first, options.first + options.seeds):
            round_ = Round(Path(folder_name), server, seed, options.share, kill=options.kill, timeout_s=options.timeout_s)
            wrong = round_.run()
            rows.append((round_.name, (wrong, round_.seconds)))
            print(f"| {round_.name} | {'; '.join(wrong) or 'whole'} | {round_.given} | {round_.seconds:.0f} s |", flush=True)
    whole = sum(not wrong for _, (wrong, _) in rows)
    median = statistics.median(seconds for _, (_, seconds) in rows)
    print(f"{whole} of {len(rows)} whole, median {median:.0f} s")


if __name__ == "__main__":
    main()
