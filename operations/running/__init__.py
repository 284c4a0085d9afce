"""Workers and sinks."""
