"""How fast exported folders are here, and what they cost."""
