"""Pages that show what happened: one self-contained HTML file a run."""

from visenv.report.page import write_page

__all__ = ["write_page"]
