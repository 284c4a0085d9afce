"""`wallet inspect`: a wallet's state at any offset or time, from the topics alone."""
