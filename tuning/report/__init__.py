"""The report: text, tables, figures and a page, for when a sweep is over, or while it runs."""

from tuning.report.files import write_report
from tuning.report.loading import read_criteria, read_launch, read_named

__all__ = ["read_criteria", "read_launch", "read_named", "write_report"]
