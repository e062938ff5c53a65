"""Compare finished runs: read them, group them over seeds, and write a table and figures."""
