"""Video frame interpolation: all that the programs are made of."""
