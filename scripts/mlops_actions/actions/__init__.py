"""The actions, a module each: its inputs, its outputs, and the call of the capability that does it."""
