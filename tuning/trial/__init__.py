"""One trial: its assets, its context, and the trainable that both Ray Tune and a debugger can run.

`trainable`, `placement` and `local` import Ray, so import them by their full names.
"""

from tuning.trial.assets import Assets, prepare

__all__ = ["Assets", "prepare"]
