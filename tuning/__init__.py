"""Hyperparameter search around `cpsc`: Ray Tune, Optuna and MLflow. No tensor arithmetic lives here."""
