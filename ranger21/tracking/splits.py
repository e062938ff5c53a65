"""The images that validations read, as the metrics name them: a holdout of the training set, and the official set."""

HOLDOUT, OFFICIAL = "holdout", "val"
VALIDATED = (HOLDOUT, OFFICIAL)
SAID = {OFFICIAL: "the official validation set", HOLDOUT: "the holdout of the training set"}


def watched(holdout: object) -> str:
    """Return the split that a run's validations read before its end, by whether there is a holdout."""
    return HOLDOUT if holdout else OFFICIAL


def split_of(key: str) -> str | None:
    """Return the split of a validation's metric; None for other metrics."""
    split = key.partition("/")[0]
    return split if split in VALIDATED else None
