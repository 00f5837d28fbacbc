"""What a network is: layers and their tensors, how it comes in, how images go through it, what a file holds of it."""
