"""Failures of every kind, many times over, and what they cost: ``python -m tests.benchmarks.faults --help``.

Each row kills a real study at random moments, resumes it, and checks that every trial's curves in MLflow have each
epoch once and are bit-identical to those of the same trial run undisturbed, and that the same trials are pruned as
when ASHA is shown all results in order.
"""

import argparse
import os
import random
import signal
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
from mlflow import MlflowClient

from tests.support.clusters import stay_on_loopback
from tests.support.killing import (
    ROOT,
    after,
    count_epochs,
    end,
    recorded_curves,
    repeat_alone,
    slow_study,
    start,
    wait_for_epochs,
    wait_for_record,
)
from tests.support.malformed import cases, run_catalogue
from tests.support.servers import differences, mlflow_server
from tests.support.studies import write_study
from tuning.launch import Journal, LaunchHistory, TrialHistory, replay_events
from tuning.launch.events import Epoch, Exploited, LaunchEnd
from tuning.outcome import Outcome
from tuning.search.asha import ResumableAsha, build_scheduler
from tuning.study import Study, load_study
from tuning.study.population import POPULATION

METRIC = "best_probe_agreement"


@dataclass
class Bench:
    """A folder with a teacher and a probe set that all rounds share, and the curves of undisturbed trials."""

    folder: Path
    rng: random.Random
    alone: dict[str, dict[str, list[tuple[int, float]]]] = field(default_factory=dict)

    def study_file(self, name: str, **changes: Any) -> Path:
        study = slow_study(self.folder) | {"name": name} | changes
        return write_study(self.folder / f"{name}.yaml", study)

    def launch_folder(self, name: str) -> Path:
        return self.folder / "runs" / name

    def history(self, name: str) -> LaunchHistory:
        return replay_events(Journal(self.launch_folder(name)).events(), metric=METRIC)

    def verify(self, name: str, *, curves: dict[int, dict[str, list[tuple[int, float]]]] | None = None) -> list[str]:
        """What is wrong with the finished launch `name`; empty if nothing is."""
        study = load_study(self.launch_folder(name) / "study.yaml")
        history, wrong = self.history(name), []
        curves = recorded_curves(study.local, name) if curves is None else curves
        if sorted(history.trials) != list(range(study.search.num_trials)) or sorted(curves) != sorted(history.trials):
            wrong.append(f"trials {sorted(history.trials)}, runs {sorted(curves)}")
        for number, trial in history.trials.items():
            if not trial.is_over:
                wrong.append(f"trial {number} is not over")
            undisturbed = self.undisturbed(study, trial)
            for metric, curve in curves.get(number, {}).items():
                expected = [(epoch, value) for epoch, value in undisturbed[metric] if epoch <= trial.last_epoch]
                if [epoch for epoch, _ in curve] != [epoch for epoch, _ in expected]:
                    wrong.append(f"trial {number} {metric}: epochs {[epoch for epoch, _ in curve]} of {trial.last_epoch}")
                elif after(trial.exploited_after, curve) != after(trial.exploited_after, expected):
                    wrong.append(f"trial {number} {metric}: differs from the undisturbed trial")
        scheduler = build_scheduler(study)
        if not isinstance(scheduler, ResumableAsha):
            return wrong
        pruned = {number for number, trial in history.trials.items() if trial.outcome is Outcome.PRUNED}
        completed = {number for number, trial in history.trials.items() if trial.outcome is Outcome.COMPLETED}
        if scheduler.restore_rungs(history) - completed != pruned:
            wrong.append("ASHA, shown all results in their order, prunes other trials")
        return wrong

    def undisturbed(self, study: Study, trial: TrialHistory) -> dict[str, list[tuple[int, float]]]:
        schedule = trial.schedule if study.prune.scheduler == POPULATION else ()
        key = repr([(segment.after, sorted(segment.point.items())) for segment in trial.schedule])
        if key not in self.alone:
            self.alone[key] = repeat_alone(study, trial.point, epochs=study.config.epochs, schedule=schedule)
        return self.alone[key]

    def exploits(self, name: str) -> list[tuple[int, int, int, Mapping[str, Any]]]:
        """The copies that the trials of a population made of each other."""
        events = Journal(self.launch_folder(name)).events()
        return [(event.epoch, event.number, event.donor, event.point) for event in events if isinstance(event, Exploited)]


def driver_killed(bench: Bench, rounds: int) -> str:
    """SIGKILL of the driver at a random moment between its first record and the end of an undisturbed run."""
    return _driver_killed(bench, rounds, "driver")


def population_killed(bench: Bench, rounds: int) -> str:
    """The same for population based training, which must also make the same decisions as the undisturbed run."""
    return _driver_killed(bench, rounds, "population", prune={"scheduler": "pbt", "interval": 2, "quantile": 0.34})


def _driver_killed(bench: Bench, rounds: int, kind: str, **changes: Any) -> str:
    calm = f"{kind}-calm"
    driver = start("sweep", bench.study_file(calm, **changes), cwd=bench.folder)
    wait_for_epochs(bench.launch_folder(calm), 1, driver)
    if driver.wait(300):
        raise RuntimeError((bench.folder / "driver.log").read_text()[-2000:])
    times = [event.time for event in Journal(bench.launch_folder(calm)).events() if not isinstance(event, LaunchEnd)]
    length_s = times[-1] - next(iter(times))
    failures = [f"{calm}: {line}" for line in bench.verify(calm)]
    for index in range(rounds):
        name = f"{kind}{index}"
        driver = start("sweep", bench.study_file(name, **changes), cwd=bench.folder)
        wait_for_record(bench.launch_folder(name), driver)
        time.sleep(bench.rng.uniform(0, length_s))
        before = count_epochs(bench.launch_folder(name))
        end(driver, signal.SIGKILL)
        driver = start("resume", name, "--storage", bench.folder / "runs", cwd=bench.folder)
        if driver.wait(300):
            failures.append(f"{name}: resume failed")
            continue
        wrong = bench.verify(name)
        wrong += [] if bench.exploits(name) == bench.exploits(calm) else ["trials copied others than in the undisturbed launch"]
        failures += [f"{name}: {line}" for line in wrong]
        print(f"  {name}: killed after {before} epochs, {'; '.join(wrong) or 'whole'}", flush=True)
    return _verdict(rounds, failures)


def worker_killed(bench: Bench, rounds: int) -> str:
    """SIGKILL of a trial's process at a random moment; the sweep itself must finish. A round without a victim does not count."""
    failures: list[str] = []
    killed = attempts = 0
    while killed < rounds and attempts < 2 * rounds:
        name, attempts = f"worker{attempts}", attempts + 1
        driver = start("sweep", bench.study_file(name), cwd=bench.folder)
        wait_for_epochs(bench.launch_folder(name), bench.rng.randint(1, 10), driver)
        time.sleep(bench.rng.uniform(0, 1))
        victim = _kill_a_worker(driver, bench.rng)
        if driver.wait(300):
            failures.append(f"{name}: the sweep failed")
        else:
            wrong = bench.verify(name)
            failures += [f"{name}: {line}" for line in wrong]
            print(f"  {name}: killed {victim or 'nobody, none was running'}, {'; '.join(wrong) or 'whole'}", flush=True)
        killed += victim is not None
    return _verdict(killed, failures)


def _kill_a_worker(driver: subprocess.Popen[bytes], rng: random.Random) -> str | None:
    trials = []
    for process in psutil.Process(driver.pid).children(recursive=True):
        try:
            name = process.cmdline()[0] if process.cmdline() else ""
        except psutil.Error:
            continue
        if "Trainable" in name:
            trials.append(process)
    if not trials:
        return None
    victim = rng.choice(trials)
    victim.kill()
    return f"process {victim.pid}"


def node_killed(bench: Bench, rounds: int) -> str:
    """A cluster of a head without trials and three nodes; one with a trial on it is killed in mid-sweep."""
    from ray.cluster_utils import Cluster

    failures, waits = [], []
    search = {"num_trials": 6, "startup_trials": 3, "seed": 0, "max_concurrent": 3}
    for index in range(rounds):
        name = f"node{index}"
        with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory(prefix="ray-") as ray_folder:
            stay_on_loopback(Path(ray_folder), patch)
            cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
            try:
                nodes = {node.node_id[:8]: node for node in (cluster.add_node(num_cpus=1) for _ in range(3))}
                study = bench.study_file(name, search=search, prune={"scheduler": "none"})
                driver = start("sweep", study, "--address", cluster.address, cwd=bench.folder)
                folder = bench.launch_folder(name)
                wait_for_epochs(folder, bench.rng.randint(4, 9), driver)
                time.sleep(bench.rng.uniform(0, 1))
                doomed = bench.rng.choice(sorted(_trials_by_node(folder)))
                cluster.remove_node(nodes[doomed], allow_graceful=False)
                died, victims = time.time(), _trials_by_node(folder)[doomed]
                if driver.wait(400):
                    failures.append(f"{name}: the sweep failed")
                    continue
            finally:
                cluster.shutdown()
        new = [event for event in _epochs(folder) if event.number in victims and event.time > died and doomed not in event.node]
        failures += [f"{name}: {line}" for line in bench.verify(name)]
        failures += [] if new else [f"{name}: trials {victims} of the dead node did not go on elsewhere"]
        waits += [event.time - died for event in new[:1]]
        print(f"  {name}: trials {sorted(victims)} went on elsewhere after {waits[-1] if new else 0:.1f} s", flush=True)
    return (
        f"{_verdict(rounds, failures)}; first new epoch of a moved trial {statistics.median(waits):.1f} s after the death (median)"
    )


def _epochs(folder: Path) -> list[Epoch]:
    return [event for event in Journal(folder).events() if isinstance(event, Epoch)]


def _trials_by_node(folder: Path) -> dict[str, set[int]]:
    """The running trials, by the first characters of the ID of the node they were last on."""
    running = {
        number for number, trial in replay_events(Journal(folder).events(), metric=METRIC).trials.items() if not trial.is_over
    }
    last = {event.number: event.node.rpartition("(")[2].rstrip(")") for event in _epochs(folder)}
    nodes: dict[str, set[int]] = {}
    for number in running & last.keys():
        nodes.setdefault(last[number], set()).add(number)
    return nodes


def tracking_away(bench: Bench, rounds: int, *, outages: int = 3, length_s: float = 20.0) -> str:
    """An MLflow server that is killed and restarted several times during a sweep: the cost in training time, and lost records.

    Periods with and without the server alternate, so that other load on the machine affects both alike.
    """
    failures, ratios = [], []
    for index in range(rounds):
        name = f"away{index}"
        away: list[Span] = []
        at_hand: list[Span] = []
        folder = bench.launch_folder(name)
        with mlflow_server(bench.folder / f"{name}-server") as server:
            server.start()
            driver = start("sweep", _long_study(bench, name, server.uri), cwd=bench.folder)
            wait_for_epochs(folder, 4, driver)
            for _ in range(outages):
                at_hand.append(_spell(length_s))
                server.kill()
                away.append(_spell(length_s))
                failures += [f"{name}: the sweep ended before the server was back"] if driver.poll() is not None else []
                server.start()  # its start takes processor time from the trials: such epochs do not count
            if driver.wait(600):
                failures.append(f"{name}: the sweep failed")
                continue
            failures += [f"{name}: {line}" for line in differences(MlflowClient(tracking_uri=server.uri), folder)]
        without, with_it = _epoch_times(folder, away), _epoch_times(folder, at_hand)
        print(f"  {name}: {len(without)} epochs with the server away, {len(with_it)} with it at hand", flush=True)
        ratios.append(statistics.median(without) / statistics.median(with_it))
    return f"{_verdict(rounds, failures)}; epoch time away / at hand {statistics.median(ratios):.2f} (medians within a run)"


def _long_study(bench: Bench, name: str, uri: str) -> Path:
    """A study that outlasts all outages, always with two trials, because a changing load would hide the effect."""
    config = slow_study(bench.folder)["config"]
    config["schedule"] |= {"iterations": 30}
    search = {"num_trials": 500, "startup_trials": 500, "seed": 0, "max_concurrent": 2, "time_budget_s": 240}
    return bench.study_file(name, tracking={"uri": uri}, config=config, search=search, prune={"scheduler": "none"})


Span = tuple[float, float]


def _spell(length_s: float) -> Span:
    started = time.time()
    time.sleep(length_s)
    return started, time.time()


def _epoch_times(folder: Path, spans: Sequence[Span]) -> list[float]:
    """Seconds of each epoch that lies completely within one of `spans`."""
    epochs = [(event.time, event.metrics["epoch_s"]) for event in _epochs(folder)]
    return [length for end, length in epochs if any(first < end - length and end < last for first, last in spans)]


def tracking_never_there(bench: Bench, rounds: int) -> str:
    """A server that is only started long after the sweep is over."""
    failures: list[str] = []
    for index in range(rounds):
        name = f"never{index}"
        with mlflow_server(bench.folder / f"{name}-server") as server:
            before = _times_said(bench)
            driver = start("sweep", bench.study_file(name, tracking={"uri": server.uri}), cwd=bench.folder)
            if driver.wait(400):
                failures.append(f"{name}: the sweep failed")
                continue
            said = _times_said(bench) - before
            failures += [] if said == 1 else [f"{name}: reported {said} times that the server cannot be reached"]
            server.start()
            driver = start("resume", name, "--storage", bench.folder / "runs", cwd=bench.folder)
            if driver.wait(300):
                failures.append(f"{name}: the delivery failed")
                continue
            client = MlflowClient(tracking_uri=server.uri)
            failures += [f"{name}: {line}" for line in differences(client, bench.launch_folder(name))]
    return _verdict(rounds, failures)


def _times_said(bench: Bench) -> int:
    log = bench.folder / "driver.log"
    return log.read_text().count("the tracking server cannot be reached; metrics are kept") if log.exists() else 0


def malformed(bench: Bench, rounds: int) -> str:
    """Every mistake of the catalogue, through the command line: one line, exit status 2, no Ray."""
    folder = bench.folder / "malformed"
    folder.mkdir()
    failures = run_catalogue(folder)
    for line in failures:
        print(f"  FAILED {line}", flush=True)
    return f"{len(cases()) - len(failures)} of {len(cases())} reported in one line with status 2, none started Ray"


def _verdict(rounds: int, failures: list[str]) -> str:
    for line in failures:
        print(f"  FAILED {line}", flush=True)
    failed = len({line.split(":")[0] for line in failures})
    return f"{rounds - failed} of {rounds} whole"


ROWS: dict[str, Callable[[Bench, int], str]] = {
    "driver": driver_killed,
    "population": population_killed,
    "worker": worker_killed,
    "node": node_killed,
    "away": tracking_away,
    "never": tracking_never_there,
    "malformed": malformed,
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
        table = ["| test | result | seconds |", "|---|---|---|"]
        for row in options.rows:
            rounds = {"driver": options.rounds, "worker": options.rounds, "population": min(10, options.rounds)}.get(row, 1)
            rounds = min(3, options.rounds) if row == "node" else rounds
            started = time.monotonic()
            result = ROWS[row](bench, rounds)
            table.append(f"| {row} | {result} | {time.monotonic() - started:.0f} |")
            print(table[-1], flush=True)
        print("\n".join(table))


if __name__ == "__main__":
    main()
