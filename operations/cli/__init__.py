"""What all commands share: arguments, output, child processes, and the settings they run with."""
