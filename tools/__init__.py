"""Measuring speed, and the detection of cuts."""
