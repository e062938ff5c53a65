"""What a machine can do, looked at before a long training is started on it: `scripts/check_machine.py`."""
