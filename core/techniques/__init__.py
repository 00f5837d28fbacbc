"""What is done to a network, in the order in which it is done."""
