"""Neural-network compression, written to be read: low rank, pruning, quantization, measured on Fashion-MNIST."""
