"""Topics forgotten one after another by gated adapters: what is forgotten, kept, and let act."""
