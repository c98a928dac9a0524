"""Human concepts in a model's embedding: their directions, a bottleneck of them, what each adds."""
