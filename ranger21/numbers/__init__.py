"""Recompute the numbers that README and docs quote from committed records.

docs/numbers.yaml lists, for each text, the phrases that quote records, with a placeholder for each number. For example,
`{small | AdamW | top1}` is the top-1 of a group, and `{small | AdamW - Ranger21 | gap}` the difference of two groups.
"""
