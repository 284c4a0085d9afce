"""`wallet status`, `balance`, `statement` and `inspect`: questions that change nothing."""
