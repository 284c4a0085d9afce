"""`wallet local` and `wallet init`: servers to try with, and everything that a pipeline needs before it runs."""
