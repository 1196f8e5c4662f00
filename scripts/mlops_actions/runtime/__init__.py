"""Running one action: its inputs laid together, its step of the chain, its record, and how it ends."""
