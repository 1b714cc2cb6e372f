"""Ray and its nodes: a session of it, what this machine holds, a cluster's address, its nodes and its launcher file.

All but `resources` bring Ray with them, and are imported by their full names.
"""

from tuning.cluster.resources import check_resources, concurrency, study_device

__all__ = ["check_resources", "concurrency", "study_device"]
