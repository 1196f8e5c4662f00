"""Tables: where they are, what they must be, how far they have moved, and what names their content."""
