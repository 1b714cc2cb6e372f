"""Warning about other work on the machine: threads of one computation wait for each other, so one delayed thread delays all."""

import os

from cpsc.processors import BUSY, load_per_processor


def busy_remark(threads: int) -> str:
    """Return what to tell the user before a long computation on `threads` threads; empty if there is nothing to say.

    The number of threads is left to the user, because the last digits of the results depend on it.
    """
    load = load_per_processor()
    if threads < 2 or load < BUSY:
        return ""
    return (
        f"the machine is busy ({load:.1f} processes for each of its {os.cpu_count()} processors in the last minute), and {threads} "
        "threads wait for each other: with OMP_NUM_THREADS=1 before the command it may be many times faster, but its numbers then "
        "differ in their last digits from those of several threads"
    )
