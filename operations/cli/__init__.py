"""What all commands share: arguments, output, the processes that they start, and where a command runs."""
