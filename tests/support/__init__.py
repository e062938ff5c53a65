"""What several test files share: harnesses, data, made records. Fixtures are registered in conftest.py."""
