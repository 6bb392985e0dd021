"""A video with more frames."""
