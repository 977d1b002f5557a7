"""Optical flow: of pairs of frames, of videos on the fly, kept on the disk, and as colours."""
