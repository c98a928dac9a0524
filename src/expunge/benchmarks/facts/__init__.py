"""Facts about invented people: what language models forget, keep, and are asked to forget later."""
