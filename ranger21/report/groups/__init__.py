"""Runs that differ in their seed alone make a group, groups of one recipe a comparison."""
