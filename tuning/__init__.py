"""Hyperparameter search around `cpsc`: Ray Tune, Optuna and MLflow. No tensor arithmetic lives here."""

import os

# Before anything imports Ray, which reads some of it then. Ray's own output engine ignores reporters and prints boxes; its
# per-trial JSON, CSV and TensorBoard files repeat what MLflow holds; its snapshots are not what a launch is rebuilt from.
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "600")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
