"""Statistical tests and confidence intervals for a few seeds."""
