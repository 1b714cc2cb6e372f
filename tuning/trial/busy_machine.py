"""Other work on the machine: threads that compute together wait for each other, the longer, the later each has its turn."""

import os

from cpsc.processors import BUSY, load_per_processor


def busy_remark(threads: int) -> str:
    """What is worth saying before a long computation on so many threads; empty where nothing is.

    How many there are is left to the user: the last digits of the numbers depend on it.
    """
    load = load_per_processor()
    if threads < 2 or load < BUSY:
        return ""
    return (
        f"the machine is busy (in the last minute {load:.1f} processes for each of its {os.cpu_count()} processors), and {threads} "
        "threads wait for each other: OMP_NUM_THREADS=1 before the command may be many times faster, its numbers then differ from "
        "those of more threads in their last digits"
    )
