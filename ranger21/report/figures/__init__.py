"""Figures of a comparison, drawn by matplotlib."""
