"""The course of a run (its batches and epochs) with constant and growing batches, compared with plain Python."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ranger21.data.order import Share, TrainBatches
from ranger21.engine.course import Course, Growth, StepGrowth
from ranger21.engine.plan import Plan
from ranger21.system.errors import UserError

QUICK = settings(max_examples=150, deadline=None, derandomize=True)


def test_too_many_steps_are_refused() -> None:
    for course in (lambda: Course(64, 64, 1, steps=100_000_001), lambda: Course(6400, 1, epochs=20_000)):
        with pytest.raises(UserError, match=r"A run of 1\d\d,000,00\d steps is too long: the limit is 100,000,000"):
            course()


@dataclass
class Case:
    """The arguments of a course."""

    images: int
    batch_size: int
    epochs: int
    steps: int | None
    growth: Growth | None

    def course(self) -> Course:
        return Course(self.images, self.batch_size, self.epochs, self.steps, self.growth)


@st.composite
def cases(draw: Any, growing: bool | None = None, lengths: bool = True) -> Case:
    """Draw a course whose training set holds at least one batch.

    `growing` says whether the batch grows (None: either). Growth ends at a multiple of a quarter image, so that the
    fractions of the slow course are exact.
    """
    start, multiples = draw(st.integers(1, 6)), draw(st.integers(1, 9))
    images = draw(st.integers(start * multiples, 120))
    epochs, steps = draw(st.integers(1, 5)), draw(st.none() | st.integers(1, 60)) if lengths else None
    grows = draw(st.booleans()) if growing is None else growing
    growth = Growth(start, draw(st.integers(0, 4 * 700)) / 4) if grows else None
    return Case(images, start * multiples, epochs, steps, growth)


def slow_size(case: Case, seen: int) -> int:
    """Return the size of the next batch: it grows linearly with `seen`, rounded down to a multiple of `start`."""
    if case.growth is None or seen >= case.growth.images:
        return case.batch_size
    line = Fraction(case.batch_size - case.growth.start) * seen / Fraction(case.growth.images)
    return case.growth.start + case.growth.start * int(line / case.growth.start)


def slow(case: Case) -> list[tuple[int, int, int]]:
    """Return (epoch, index of its first image, size) of each step, to the end of the last epoch."""
    rows: list[tuple[int, int, int]] = []
    seen, epoch = 0, 0
    while epoch < case.epochs if case.steps is None else len(rows) < case.steps:
        place = 0
        while place + slow_size(case, seen) <= case.images:
            size = slow_size(case, seen)
            rows.append((epoch, place, size))
            place, seen = place + size, seen + size
        epoch += 1
    return rows


@QUICK
@given(cases())
def test_every_step_matches_the_slow_course(case: Case) -> None:
    """The comparison extends to the end of the last epoch, although a run with a number of steps may end earlier."""
    course, rows = case.course(), slow(case)
    assert course.total_steps == (case.steps or len(rows))
    seen = 0
    assert course.seen(0) == course.epoch(0) == course.ends_epoch(0) == 0
    for step, (epoch, place, size) in enumerate(rows, start=1):
        seen += size
        assert (course.place(step), course.size(step), course.seen(step)) == ((epoch, place), size, seen)
        of_epoch = [index for index, row in enumerate(rows, start=1) if row[0] == epoch]
        done, last = of_epoch.index(step) + 1, step == of_epoch[-1]
        assert course.epoch(step) == pytest.approx(epoch + done / len(of_epoch), abs=1e-12)
        assert course.ends_epoch(step) == (epoch + 1 if last else 0)
        assert not last or course.epoch(step) == epoch + 1  # without a rounding error
        assert course.steps_for(seen) == step
        assert course.steps_for(seen - size / 4) == pytest.approx(step - 0.25)


@QUICK
@given(cases())
def test_batches_never_shrink_and_epochs_repeat_no_image(case: Case) -> None:
    """Batch sizes are multiples of the unit, and at most the full batch."""
    course = case.course()
    sizes = [course.size(step) for step in range(1, course.total_steps + 1)]
    places = [course.place(step) for step in range(1, course.total_steps + 1)]
    assert course.unit == (case.growth.start if case.growth else case.batch_size)
    assert all(size % course.unit == 0 and course.unit <= size <= case.batch_size for size in sizes)
    assert all(one <= other for one, other in pairwise(sizes))
    for epoch in range(places[-1][0] + 1):
        runs = [(begin, begin + size) for (of, begin), size in zip(places, sizes, strict=True) if of == epoch]
        assert runs[0][0] == 0 and all(end == begin for (_, end), (begin, _) in pairwise(runs))
        left = case.images - runs[-1][1]
        assert left >= 0
        if epoch < places[-1][0]:  # a whole epoch leaves out fewer images than the next batch has
            assert left < sizes[places.index((epoch + 1, 0))] <= case.batch_size
    done = [course.epoch(step) for step in range(course.total_steps + 1)]
    assert all(0 < after - before <= 1 for before, after in pairwise(done))


@QUICK
@given(cases(growing=True, lengths=False))
def test_growth_ends_exactly_after_the_configured_number_of_images(case: Case) -> None:
    """The first batch has `start` images unless growth ends at once or `start` is already the full batch."""
    course, growth = case.course(), case.growth
    assert growth is not None
    for step in range(1, course.total_steps + 1):
        if course.seen(step - 1) >= growth.images:
            assert course.size(step) == case.batch_size
        elif case.batch_size > growth.start:
            assert course.size(step) < case.batch_size
    assert course.size(1) == (growth.start if growth.images else case.batch_size)


@QUICK
@given(cases(growing=False))
def test_constant_batches_follow_from_integer_division(case: Case) -> None:
    course, per_epoch = case.course(), case.images // case.batch_size
    assert course.total_steps == (case.steps or case.epochs * per_epoch)
    for step in range(1, course.total_steps + 1):
        epoch, of_epoch = divmod(step - 1, per_epoch)
        assert course.place(step) == (epoch, of_epoch * case.batch_size)
        assert course.size(step) == course.unit == case.batch_size
        assert course.seen(step) == step * case.batch_size
        assert course.epoch(step) == pytest.approx(step / per_epoch, abs=1e-12)
        assert course.ends_epoch(step) == (0 if step % per_epoch else step // per_epoch)
        assert course.steps_for(course.seen(step) - 0.5) == pytest.approx(step - 0.5 / case.batch_size)


@QUICK
@given(cases(lengths=False), st.integers(1, 60))
def test_a_number_of_steps_changes_only_the_length(case: Case, steps: int) -> None:
    """The number of epochs is then ignored, and the steps that both courses have are equal."""
    whole = case.course()
    course = Course(case.images, case.batch_size, 99, steps, case.growth)
    assert course.total_steps == steps
    for step in range(1, min(steps, whole.total_steps) + 1):
        for ask in ("size", "seen", "place", "epoch", "ends_epoch"):
            assert getattr(course, ask)(step) == getattr(whole, ask)(step)
    assert course.ends_epoch(steps) in (0, course.epoch(steps))


@QUICK
@given(cases(), st.lists(st.floats(0, 5000), min_size=2, max_size=6))
def test_steps_for_rises_and_continues_with_the_last_batch_size(case: Case, images: list[float]) -> None:
    course, rows = case.course(), slow(case)
    last, pace = sum(size for _, _, size in rows), rows[-1][2]
    found = [course.steps_for(number) for number in sorted(images)]
    assert all(one <= other for one, other in pairwise(found)) and course.steps_for(0) == 0
    for number, steps in zip(sorted(images), found, strict=True):
        if number >= last:
            assert steps == pytest.approx(len(rows) + (number - last) / pace)
        else:
            whole = int(steps)
            assert course.seen(whole) <= number + 1e-6 and number <= course.seen(whole + 1)


@QUICK
@given(cases(growing=True, lengths=False), st.integers(1, 3), st.integers(1, 3), st.integers(0, 3), st.data())
def test_ranks_and_passes_divide_a_growing_batch(case: Case, world: int, accumulate: int, seed: int, data) -> None:
    """All passes have equal size, and the ranks' shares form the batch of a single process, from any first step on."""
    parts, growth = world * accumulate, case.growth
    assert growth is not None
    course = Course(
        case.images * parts, case.batch_size * parts, case.epochs, None, Growth(growth.start * parts, growth.images)
    )
    first = data.draw(st.integers(1, course.total_steps))
    alone = list(TrainBatches(course, seed, first, course.total_steps, Share()))
    ranks = [TrainBatches(course, seed, first, course.total_steps, Share(r, world, accumulate)) for r in range(world)]
    assert len(TrainBatches(course, seed, first, course.total_steps, Share())) == len(alone)
    passes = [iter(list(rank)) for rank in ranks]
    assert [len(list(rank)) for rank in ranks] == [len(rank) for rank in ranks]
    plan, keys = Plan(course, accumulate, 1, 1, None, None), iter(alone)
    seen: dict[int, list[int]] = {}
    for step in range(first, course.total_steps + 1):
        batch = [key for _ in range(course.size(step) // course.unit) for key in next(keys)]
        shares = [[next(rank) for _ in range(plan.passes(step))] for rank in passes]
        assert {len(part) for share in shares for part in share} == {growth.start}
        assert [key for share in shares for part in share for key in part] == batch
        assert len(batch) == course.size(step) and {epoch for epoch, _ in batch} == {course.place(step)[0]}
        seen.setdefault(batch[0][0], []).extend(index for _, index in batch)
    assert next(keys, None) is None and all(next(rank, None) is None for rank in passes)
    for indices in seen.values():
        assert len(set(indices)) == len(indices) and set(indices) <= set(range(course.images))


def test_a_growing_batch_in_an_example() -> None:
    """80 images per epoch; the batch grows from 4 to 16 over the first 48 images, by 4 after every 16."""
    course = Course(80, 16, 2, growth=Growth(4, 48.0))
    sizes = [course.size(step) for step in range(1, course.total_steps + 1)]
    assert sizes == [4, 4, 4, 4, 8, 8, 12, 12, 16, 16, 16, 16, 16, 16]
    assert [course.seen(step) for step in (4, 6, 8, 9, 14)] == [16, 32, 56, 72, 152]
    assert [course.ends_epoch(step) for step in (8, 9, 10, 14)] == [0, 1, 0, 2]
    assert course.place(9) == (0, 56) and course.place(10) == (1, 0)
    assert course.epoch(3) == pytest.approx(1 / 3) and course.epoch(9) == 1 and course.epoch(12) == pytest.approx(1.6)
    assert course.steps_for(24) == 5 and course.steps_for(44) == pytest.approx(7) and course.steps_for(168) == 15


def test_a_batch_is_multiplied_where_the_step_schedule_divides_the_rate() -> None:
    """Epochs of 40 images. The batch is 2, 6, 18: it grows at the first step that begins after 40 and 80 images."""
    course = Course(40, 18, 4, growth=StepGrowth(2, 40.0, 3, 18))
    sizes = [course.size(step) for step in range(1, course.total_steps + 1)]
    assert sizes == [2] * 20 + [6] * 7 + [18] * 3
    assert all(size == 2 * 3 ** min(2, course.seen(step) // 40) for step, size in enumerate(sizes))


@pytest.mark.parametrize("growth", [None, Growth(4, 0.2 * 60 * 1_281_167)])
def test_imagenet_in_sixty_epochs(growth: Growth | None) -> None:
    images = 1_281_167
    course = Course(images, 64, 60, growth=growth)
    total = course.total_steps
    assert (total == 60 * (images // 64)) if growth is None else (total > 60 * (images // 64))
    assert course.epoch(total) == course.ends_epoch(total) == 60
    assert 60 * (images - 64) < course.seen(total) <= 60 * images
    assert course.place(total)[0] == 59 and course.size(total) == 64
    assert course.steps_for(course.seen(total // 2)) == total // 2
    assert len(TrainBatches(course, 0, 1, total, Share())) == course.seen(total) // course.unit
