"""Every released version of the balance schema."""
