"""Every released version of the snapshot schema."""
