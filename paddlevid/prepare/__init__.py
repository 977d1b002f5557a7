"""From a dataset as it lies on the disk to what training reads: checked lists, frames, small clips."""
