"""Deaths of every kind, many times over, and what they cost: ``python -m tests.benchmarks.faults --help``.

Each row kills a real study at random moments, resumes it, and checks that every trial's curves in MLflow hold each
epoch once and equal, bit for bit, those of the same trial run undisturbed, and that the prunings are those that ASHA
makes when all results are played to it in their order.
"""

import argparse
import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from mlflow import MlflowClient

from tests.conftest import write_study
from tests.killing import (
    ROOT,
    count_epochs,
    end,
    recorded_curves,
    repeat_alone,
    slow_study,
    start,
    wait_for_epochs,
    wait_for_record,
)
from tuning.config import Study, load_study
from tuning.history import LaunchHistory, fold
from tuning.journal import Journal
from tuning.outcome import Outcome
from tuning.search import ResumableAsha, build_scheduler

METRIC = "best_probe_agreement"


@dataclass
class Bench:
    """A folder with a teacher and a probe set that all rounds share, and the curves of undisturbed trials."""

    folder: Path
    rng: random.Random
    alone: dict[str, dict[str, list[float]]] = field(default_factory=dict)

    def study_file(self, name: str, **changes: Any) -> Path:
        study = slow_study(self.folder) | {"name": name} | changes
        return write_study(self.folder / f"{name}.yaml", study)

    def launch_folder(self, name: str) -> Path:
        return self.folder / "runs" / name

    def history(self, name: str) -> LaunchHistory:
        return fold(Journal(self.launch_folder(name)).events(), metric=METRIC)

    def verify(self, name: str, *, curves: dict[int, dict[str, list[tuple[int, float]]]] | None = None) -> list[str]:
        """What is wrong with the finished launch `name`; empty if nothing is."""
        study = load_study(self.launch_folder(name) / "study.yaml")
        history, wrong = self.history(name), []
        curves = recorded_curves(study.storage, name) if curves is None else curves
        if sorted(history.trials) != list(range(study.search.num_trials)) or sorted(curves) != sorted(history.trials):
            wrong.append(f"trials {sorted(history.trials)}, runs {sorted(curves)}")
        for number, trial in history.trials.items():
            if not trial.is_over:
                wrong.append(f"trial {number} is not over")
            undisturbed = self.undisturbed(study, trial.point)
            for metric, curve in curves.get(number, {}).items():
                if [epoch for epoch, _ in curve] != list(range(1, trial.last_epoch + 1)):
                    wrong.append(f"trial {number} {metric}: epochs {[epoch for epoch, _ in curve]} of {trial.last_epoch}")
                elif [value for _, value in curve] != undisturbed[metric][: len(curve)]:
                    wrong.append(f"trial {number} {metric}: differs from the undisturbed trial")
        scheduler = build_scheduler(study)
        assert isinstance(scheduler, ResumableAsha)
        pruned = {number for number, trial in history.trials.items() if trial.outcome is Outcome.PRUNED}
        completed = {number for number, trial in history.trials.items() if trial.outcome is Outcome.COMPLETED}
        if scheduler.replay(history) - completed != pruned:
            wrong.append("ASHA, shown all results in their order, prunes other trials")
        return wrong

    def undisturbed(self, study: Study, point: dict[str, Any]) -> dict[str, list[float]]:
        key = repr(sorted(point.items()))
        if key not in self.alone:
            self.alone[key] = repeat_alone(study, point, epochs=study.config.epochs)
        return self.alone[key]


def driver_killed(bench: Bench, rounds: int) -> str:
    """SIGKILL of the driver at a random moment between its first record and the end of an undisturbed run."""
    bench.study_file("calm")
    driver = start("sweep", bench.folder / "calm.yaml", cwd=bench.folder)
    wait_for_epochs(bench.launch_folder("calm"), 1, driver)
    if driver.wait(300):
        raise RuntimeError((bench.folder / "driver.log").read_text()[-2000:])
    times = [event["time"] for event in Journal(bench.launch_folder("calm")).events() if event["kind"] != "launch_end"]
    length_s = times[-1] - next(iter(times))
    failures = [f"calm: {line}" for line in bench.verify("calm")]
    for index in range(rounds):
        name = f"driver{index}"
        driver = start("sweep", bench.study_file(name), cwd=bench.folder)
        wait_for_record(bench.launch_folder(name), driver)
        time.sleep(bench.rng.uniform(0, length_s))
        before = count_epochs(bench.launch_folder(name))
        end(driver, signal.SIGKILL)
        driver = start("resume", name, "--storage", bench.folder / "runs", cwd=bench.folder)
        if driver.wait(300):
            failures.append(f"{name}: resume failed")
            continue
        wrong = bench.verify(name)
        failures += [f"{name}: {line}" for line in wrong]
        print(f"  {name}: killed after {before} epochs, {'; '.join(wrong) or 'whole'}", flush=True)
    return _verdict(rounds, failures)


def worker_killed(bench: Bench, rounds: int) -> str:
    """SIGKILL of a trial's process at a random moment; the sweep itself must finish."""
    failures: list[str] = []
    for index in range(rounds):
        name = f"worker{index}"
        driver = start("sweep", bench.study_file(name), cwd=bench.folder)
        wait_for_epochs(bench.launch_folder(name), bench.rng.randint(1, 15), driver)
        time.sleep(bench.rng.uniform(0, 1))
        victim = _kill_a_worker(driver, bench.rng)
        if driver.wait(300):
            failures.append(f"{name}: the sweep failed")
            continue
        wrong = bench.verify(name)
        failures += [f"{name}: {line}" for line in wrong]
        print(f"  {name}: killed {victim}, {'; '.join(wrong) or 'whole'}", flush=True)
    return _verdict(rounds, failures)


def _kill_a_worker(driver: subprocess.Popen[bytes], rng: random.Random) -> str:
    trials = []
    for process in psutil.Process(driver.pid).children(recursive=True):
        try:
            name = process.cmdline()[0] if process.cmdline() else ""
        except psutil.Error:
            continue
        if "DistillTrainable" in name:
            trials.append(process)
    if not trials:
        return "nobody, none was running"
    victim = rng.choice(trials)
    victim.kill()
    return f"process {victim.pid}"


def node_killed(bench: Bench, rounds: int) -> str:
    """A cluster of a head without trials and three nodes; one is killed in mid-sweep."""
    from ray.cluster_utils import Cluster

    failures, waits = [], []
    for index in range(rounds):
        name = f"node{index}"
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
        nodes = [cluster.add_node(num_cpus=1) for _ in range(3)]
        try:
            study = bench.study_file(name, search={"num_trials": 6, "startup_trials": 3, "seed": 0, "max_concurrent": 3})
            driver = start("sweep", study, "--address", cluster.address, cwd=bench.folder)
            folder = bench.launch_folder(name)
            wait_for_epochs(folder, bench.rng.randint(4, 9), driver)
            cluster.remove_node(bench.rng.choice(nodes), allow_graceful=False)
            died, before = time.monotonic(), count_epochs(folder)
            wait_for_epochs(folder, before + 1, driver)
            waits.append(time.monotonic() - died)
            if driver.wait(400):
                failures.append(f"{name}: the sweep failed")
                continue
        finally:
            cluster.shutdown()
        failures += [f"{name}: {line}" for line in bench.verify(name)]
    return f"{_verdict(rounds, failures)}; first new epoch {statistics.median(waits):.1f} s after the death (median)"


def tracking_away(bench: Bench, rounds: int, *, away_s: float = 60.0) -> str:
    """An MLflow server that is stopped for a while in mid-sweep."""
    failures, ratios = [], []
    for index in range(rounds):
        name, port = f"away{index}", _free_port()
        server = _start_server(bench.folder / f"{name}-server", port)
        uri = f"http://127.0.0.1:{port}"
        config = slow_study(bench.folder)["config"]
        config["schedule"] |= {"iterations": 250}
        study = bench.study_file(name, tracking={"uri": uri}, config=config, search={"num_trials": 8, "startup_trials": 3})
        driver = start("sweep", study, cwd=bench.folder)
        wait_for_epochs(bench.launch_folder(name), 3, driver)
        left = time.time()
        _stop_server(server)
        while time.time() - left < away_s and driver.poll() is None:
            time.sleep(0.2)
        back = time.time()
        running = driver.poll() is None
        server = _start_server(bench.folder / f"{name}-server", port)
        try:
            if driver.wait(400):
                failures.append(f"{name}: the sweep failed")
                continue
            failures += [] if running else [f"{name}: the sweep ended before the server was back"]
            failures += [f"{name}: {line}" for line in _lost_metrics(bench, name, uri)]
            ratios.append(_throughput_ratio(bench, name, left, back))
        finally:
            _stop_server(server)
    return f"{_verdict(rounds, failures)}; epoch time away / at hand {statistics.median(ratios):.2f} (median of {rounds})"


def tracking_never_there(bench: Bench, rounds: int) -> str:
    """A server that is not there until the sweep is long over."""
    failures: list[str] = []
    for index in range(rounds):
        name, port = f"never{index}", _free_port()
        uri = f"http://127.0.0.1:{port}"
        driver = start("sweep", bench.study_file(name, tracking={"uri": uri}), cwd=bench.folder)
        if driver.wait(400):
            failures.append(f"{name}: the sweep failed")
            continue
        said = (bench.folder / "driver.log").read_text().count("tracking is away, metrics are kept") - index
        failures += [] if said == 1 else [f"{name}: said {said} times that tracking is away"]
        server = _start_server(bench.folder / f"{name}-server", port)
        try:
            driver = start("resume", name, "--storage", bench.folder / "runs", cwd=bench.folder)
            failures += [f"{name}: the delivery failed"] if driver.wait(300) else _lost_metrics(bench, name, uri)
        finally:
            _stop_server(server)
    return _verdict(rounds, failures)


def _lost_metrics(bench: Bench, name: str, uri: str) -> list[str]:
    """Differences between the journal of a launch and what a server holds of it."""
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name(name)
    runs = {int(run.data.tags["number"]): run for run in client.search_runs([experiment.experiment_id], "tags.kind = 'trial'")}
    wrong = []
    for event in Journal(bench.launch_folder(name)).events():
        if event["kind"] != "epoch":
            continue
        for metric in ("probe_agreement", "student/kl", "best_probe_agreement"):
            history = client.get_metric_history(runs[event["number"]].info.run_id, metric)
            if [point.value for point in history if point.step == event["epoch"]] != [event["metrics"][metric]]:
                wrong.append(f"trial {event['number']} epoch {event['epoch']} {metric} is not there once")
    return wrong


def _throughput_ratio(bench: Bench, name: str, left: float, back: float) -> float:
    epochs = [event for event in Journal(bench.launch_folder(name)).events() if event["kind"] == "epoch"]
    away = [event["metrics"]["epoch_s"] for event in epochs if left < event["time"] < back]
    at_hand = [event["metrics"]["epoch_s"] for event in epochs if not left < event["time"] < back]
    return statistics.median(away) / statistics.median(at_hand)


def _start_server(folder: Path, port: int) -> subprocess.Popen[bytes]:
    folder.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}", "--artifacts-destination", str(folder / "artifacts")]
    with (folder / "server.log").open("ab") as log:
        server = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, start_new_session=True)
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return server
        time.sleep(0.2)
    raise TimeoutError((folder / "server.log").read_text()[-1000:])


def _stop_server(server: subprocess.Popen[bytes]) -> None:
    os.killpg(server.pid, signal.SIGKILL)
    server.wait(30)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _verdict(rounds: int, failures: list[str]) -> str:
    for line in failures:
        print(f"  FAILED {line}", flush=True)
    failed = len({line.split(":")[0] for line in failures})
    return f"{rounds - failed} of {rounds} whole"


ROWS: dict[str, Callable[[Bench, int], str]] = {
    "driver": driver_killed,
    "worker": worker_killed,
    "node": node_killed,
    "away": tracking_away,
    "never": tracking_never_there,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", nargs="*", choices=[*ROWS, []], default=list(ROWS))
    parser.add_argument("--rounds", type=int, default=20, help="how often a driver or a worker is killed")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    os.chdir(ROOT)
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), random.Random(options.seed))
        for row in options.rows:
            rounds = options.rounds if row in ("driver", "worker") else 1
            started = time.monotonic()
            result = ROWS[row](bench, rounds)
            print(f"{row}: {result} ({time.monotonic() - started:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
