"""Compare runs: read them, group them over seeds, and write tables, verdicts, figures and a page."""
