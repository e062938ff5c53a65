"""The one table of colours: which colour and dash pattern each optimizer has in figures, on the page and in W&B."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

SOLID: tuple[float, ...] = ()
DASHED, DOTTED, LONG = (5, 1.6), (1.2, 1.2), (9, 2)
DASH_DOT, DASH_DOTS = (6, 1.6, 1.2, 1.6), (6, 1.4, 1.2, 1.4, 1.2, 1.4)
DASHES = (SOLID, DASHED, DASH_DOT, DOTTED, LONG, DASH_DOTS)


@dataclass(frozen=True)
class Look:
    """How a line is drawn.

    Attributes:
        light: colour on white, also in print.
        dark: colour on a dark background.
        dash: lengths of dashes and gaps, in multiples of the line width; empty for a solid line.
        width: in points.
    """

    light: str
    dark: str
    dash: tuple[float, ...] = SOLID
    width: float = 1.5


# Based on Okabe and Ito's colours, which colour-blind readers can tell apart, darkened until they are legible on white.
GREEN, PINK, OCHRE, INK = (
    ("#00875F", "#2FC296"),
    ("#B4568F", "#DD8FBD"),
    ("#A66F00", "#E8AC2E"),
    ("#3D4148", "#D3D7DE"),
)
SHARED = (GREEN, PINK, OCHRE, INK)
# Ranger21 is the most visible, then AdamW: no other optimizer has their colours, and their lines are wider.
OPTIMIZERS: dict[str, Look] = {
    "ranger21": Look("#CC4400", "#FF8534", SOLID, 2.4),
    "adamw": Look("#0072B2", "#4DACE8", DASHED, 2.0),
    "ranger21_official": Look(*OCHRE, DASH_DOT),
    "ranger": Look(*OCHRE, LONG),
    "radam": Look(*OCHRE, DASHED),
    "rangerlars": Look(*OCHRE, DOTTED),
    "paratrooper": Look(*OCHRE, DASH_DOTS),
    "lion": Look(*GREEN, DASH_DOT),
    "adam": Look(*GREEN, DASHED),
    "rmsprop": Look(*GREEN, LONG),
    "adagrad": Look(*GREEN, DOTTED),
    "adadelta": Look(*GREEN, DASH_DOTS),
    "muon": Look(*PINK, DOTTED),
    "lamb": Look(*PINK, DASHED),
    "lars": Look(*PINK, DASH_DOT),
    "larc": Look(*PINK, LONG),
    "nesterov": Look(*INK, DASHED),
    "momentum": Look(*INK, DASH_DOT),
    "sgdw": Look(*INK, LONG),
    "gd": Look(*INK, DOTTED),
    "chain": Look(*INK, DASH_DOTS),
}
SHADES = ((0.0, 0.0), (0.0, 0.2), (0.4, 0.0))  # how much black, and how much white, is mixed into further lines


def look_of(optimizer: str) -> Look:
    """Return how an optimizer is drawn. One that is not in the table has a solid line in a colour given by its name."""
    if optimizer in OPTIMIZERS:
        return OPTIMIZERS[optimizer]
    number = int.from_bytes(hashlib.sha256(optimizer.encode()).digest()[:4], "big")
    return Look(*SHARED[number % len(SHARED)])


def variants(look: Look, count: int, alone: bool) -> list[Look]:
    """Return looks for `count` lines of one optimizer: its own first, then others that can be told apart.

    Args:
        alone: whether no other optimizer is shown. The further lines then have the shared colours, otherwise shades of
            the optimizer's own.
    """
    made = [look]
    for index in range(1, count):
        thin = replace(look, width=1.5)
        if alone:
            light, dark = SHARED[(index - 1) % len(SHARED)]
            made.append(replace(thin, light=light, dark=dark, dash=DASHES[(index - 1) // len(SHARED) % len(DASHES)]))
        else:
            black, white = SHADES[(index + index // len(DASHES)) % len(SHADES)]
            dash = DASHES[(DASHES.index(look.dash) + index) % len(DASHES)]
            made.append(
                replace(thin, light=_mixed(look.light, black, white), dark=_mixed(look.dark, black, white), dash=dash)
            )
    return made


def _mixed(colour: str, black: float, white: float) -> str:
    """Return a colour with black and white mixed in."""
    parts: Sequence[int] = [int(colour[place : place + 2], 16) for place in (1, 3, 5)]
    return "#" + "".join(f"{round(part * (1 - black - white) + 255 * white):02X}" for part in parts)
