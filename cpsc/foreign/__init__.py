"""Weights that other programs saved: what a file is, what is in it, and how it becomes a network's."""
