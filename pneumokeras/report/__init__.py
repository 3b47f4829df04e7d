"""A report as a folder: its figures as JSON, text and pictures, and one page that needs nothing else."""

from pneumokeras.report.contents import ComparedRuns, Examples, Pictures, ReportContents
from pneumokeras.report.write import report_schema, write_report

__all__ = ["ComparedRuns", "Examples", "Pictures", "ReportContents", "report_schema", "write_report"]
