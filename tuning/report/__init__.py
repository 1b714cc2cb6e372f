"""The report of a sweep that is over or still runs: text, tables, figures and a page."""

from tuning.report.files import write_report
from tuning.report.loading import read_criteria, read_launch, read_named

__all__ = ["read_criteria", "read_launch", "read_named", "write_report"]
