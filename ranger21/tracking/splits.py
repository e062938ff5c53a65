"""The splits that validations read, as named in metrics: a holdout of the training set, and the official set.

Metrics of the average of the weights (`trainer.ema`) have names of their own, such as `val_ema/acc1`.
"""

HOLDOUT, OFFICIAL = "holdout", "val"
AVERAGED = {HOLDOUT: "holdout_ema", OFFICIAL: "val_ema"}  # the same images, with the average of the weights
VALIDATED = (HOLDOUT, OFFICIAL, *AVERAGED.values())
SAID = {OFFICIAL: "the official validation set", HOLDOUT: "the holdout of the training set"}


def watched(holdout: object) -> str:
    """Return the split that a run's validations read before its end: the holdout if there is one."""
    return HOLDOUT if holdout else OFFICIAL


def split_of(key: str) -> str | None:
    """Return the split of a validation's metric; None for other metrics."""
    split = key.partition("/")[0]
    return split if split in VALIDATED else None


def images_of(split: str) -> str:
    """Return the split whose images are read: `val` for `val` and for `val_ema`."""
    return next((images for images, averaged in AVERAGED.items() if averaged == split), split)
