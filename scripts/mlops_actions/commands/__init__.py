"""Commands that are not actions: setting a repository up, and looking at data."""
