"""Exported models: making them, and using them without a recipe."""
