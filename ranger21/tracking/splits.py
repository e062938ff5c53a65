"""The splits that validations read, as named in metrics: a holdout of the training set, and the official set."""

HOLDOUT, OFFICIAL = "holdout", "val"
VALIDATED = (HOLDOUT, OFFICIAL)
SAID = {OFFICIAL: "the official validation set", HOLDOUT: "the holdout of the training set"}


def watched(holdout: object) -> str:
    """Return the split that a run's validations read before its end: the holdout if there is one."""
    return HOLDOUT if holdout else OFFICIAL


def split_of(key: str) -> str | None:
    """Return the split of a validation's metric; None for other metrics."""
    split = key.partition("/")[0]
    return split if split in VALIDATED else None
