"""Sweeps simulated on recorded curves: the search and the scheduler are real, the trials and the clock are not."""
