"""One trial: its assets, its context, and the trainable that Ray Tune and a debugger run alike.

`trainable` and `local` bring Ray with them, and are imported by their full names.
"""

from tuning.trial.assets import Assets, prepare

__all__ = ["Assets", "prepare"]
