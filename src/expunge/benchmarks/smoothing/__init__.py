"""Whether smoothed forgetting resists relearning where plain forgetting went as far."""
