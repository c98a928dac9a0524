"""One file for each published unlearning method."""
