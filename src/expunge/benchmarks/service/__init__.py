"""The service under load: many clients at once, and processes that are killed in the middle."""
