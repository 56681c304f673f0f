"""cuda-needs: what a file asks of CUDA, what the host has of it, and what will break first."""
