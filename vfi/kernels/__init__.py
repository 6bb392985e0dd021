"""The op, computed: Numba on CPUs, CUDA on NVIDIA GPUs."""
