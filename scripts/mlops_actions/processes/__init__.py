"""Processes: one way to start, to identify, to watch and to end a process with all that it starts."""
