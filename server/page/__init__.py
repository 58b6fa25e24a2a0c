"""The report of a finished run as one page: report.html."""
