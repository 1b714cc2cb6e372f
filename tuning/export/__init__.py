"""Export of a study's best student to files for use elsewhere."""

from tuning.export.export import export_student, parse_at, parse_formats

__all__ = ["export_student", "parse_at", "parse_formats"]
