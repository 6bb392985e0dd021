"""The op, computed; nothing else in the project mentions Numba or CuPy.

cpu.py            tasks, threads and tensors of the kernels on the CPU, compiled by Numba
cpu_tiles.py      their inner loops, in tiles of registers
cpu_vectors.py    vector instructions for all kernels on the CPU
cpu_upsampling.py bilinear upsampling and the convolution behind it as one, for vfi/cpu_network.py
cpu_inference.py  the end of the network in one pass, likewise
sepconv.cu        THE CUDA KERNELS, for NVIDIA GPUs
cuda.py           plans which of them to launch, compiles them by CuPy, and launches them
"""
