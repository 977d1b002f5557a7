"""Features of many videos in files that a run can be resumed from and shared between machines."""
