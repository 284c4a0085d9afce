"""The SQL migrations, in the order of their numbers."""
