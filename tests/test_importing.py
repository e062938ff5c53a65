"""Imports without garbage collection leave the collector as it was."""

from __future__ import annotations

import gc

import pytest

from ranger21.system.importing import without_collecting_garbage


@pytest.mark.parametrize("on", [True, False])
def test_the_collector_is_off_inside_and_afterwards_as_it_was_even_after_an_error(on: bool) -> None:
    was_on, frozen = gc.isenabled(), gc.get_freeze_count()
    try:
        (gc.enable if on else gc.disable)()
        with pytest.raises(ImportError), without_collecting_garbage():
            assert not gc.isenabled()
            kept = [[] for _ in range(1000)]
            raise ImportError
        assert gc.isenabled() == on
        assert gc.get_freeze_count() >= frozen + len(kept) and not any(item is kept for item in gc.get_objects())
    finally:
        (gc.enable if was_on else gc.disable)()
