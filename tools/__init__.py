"""For developers: `python -m tools.speed` measures speed, `python -m tools.measure_cuts` the detection of cuts."""
