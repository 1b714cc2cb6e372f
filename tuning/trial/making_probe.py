"""Synthesis of a probe set. It takes minutes, so an interrupted one continues where it was."""

import torch

from cpsc.probe import ProbeConfig, UnfinishedProbe, synthesise
from cpsc.teacher import Teacher
from tuning.display import Display
from tuning.storage import Storage
from tuning.trial.unfinished import Unfinished


def make_probe(teacher: Teacher, config: ProbeConfig, storage: Storage, name: str, device: torch.device, display: Display) -> None:
    """Synthesise the probe set of `teacher` as `name` in `storage`, continuing where an earlier process was interrupted.

    The result is bit-identical to that of an uninterrupted synthesis.
    """
    unfinished = Unfinished[UnfinishedProbe](storage, name)
    begun = unfinished.load(lambda path: UnfinishedProbe.load(path, teacher, config, device))
    total = config.num_images // config.batch_size * config.steps
    if begun is not None:
        display.say(f"probe set: continues after step {begun.done} of {total}, where it was interrupted")
    with display.bar("probe set", total, done=begun.done if begun else 0) as advance:
        probe = synthesise(
            teacher,
            config,
            device,
            on_step=lambda done, total: advance(done, f"step {done} of {total}"),
            begun=begun,
            keep=unfinished.keep,
        )
    unfinished.complete(probe)
