"""Analysis of the GPU work without a GPU: kernel launches, memory traffic, and the compiled kernels' resources."""
