"""Stand-ins for servers that cannot run in every place where the tests do."""
