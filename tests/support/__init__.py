"""Helpers, test data and recorded runs that several test files share. conftest.py registers the fixtures."""
