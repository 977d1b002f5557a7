"""Video that is long or does not end: frames as they come, windows over them, and what is made of their labels."""
