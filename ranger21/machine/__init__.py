"""Checks of a machine before a long training: `scripts/check_machine.py`."""
