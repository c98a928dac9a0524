"""ACU: whether a ridge head after a thousand requests is the retrained one, beside baselines."""
