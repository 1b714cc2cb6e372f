"""Data-free knowledge distillation in PyTorch: teachers, generators, methods and the loop that alternates them.

Imports torch and the standard library only; the search around it lives in ``tuning``.
"""
