"""What a run has shown, for people: a self-contained HTML page, and the table that ends a run in the terminal.

    from codevision_lite.report import print_table, write_report

It only reads a run folder; it needs no model, no GPU and no network.
"""

from codevision_lite.report.page import write_report
from codevision_lite.report.terminal import print_table

__all__ = ["print_table", "write_report"]
