"""The numbers that texts quote from committed records, computed again from those records.

`docs/numbers.yaml` holds, for each text, the phrases in it that come from records, with a place for each number:
`{small | AdamW | top1}` is the top-1 of a group, `{small | AdamW - Ranger21 | gap}` a difference of two.
"""
