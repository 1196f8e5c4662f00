"""What a run leaves in ML Metadata: its tasks, their outputs and artifacts."""
