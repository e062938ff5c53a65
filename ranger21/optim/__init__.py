"""Ranger21, its ingredients and its schedules. Imports torch and itself only."""
