"""`wallet local` and `wallet init`: servers to try things with, and everything a pipeline needs before it runs."""
