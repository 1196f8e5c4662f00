"""Object stores: files and versions by URI, and a lease on a name."""
