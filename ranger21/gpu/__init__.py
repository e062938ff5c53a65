"""What can be known of the work for a GPU without having one: launches, bytes, what compilers make of the kernels."""
