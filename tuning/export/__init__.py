"""A study's best student as files for elsewhere."""

from tuning.export.export import export_student, parse_at, parse_formats

__all__ = ["export_student", "parse_at", "parse_formats"]
