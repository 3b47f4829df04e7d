"""A report as a folder: its figures as JSON, text and pictures, and one page that needs nothing else."""

from pneumokeras.report.contents import Examples, ReportContents
from pneumokeras.report.writing import write_report

__all__ = ["Examples", "ReportContents", "write_report"]
