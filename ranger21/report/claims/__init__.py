"""The paper's claims beside what the runs say."""
