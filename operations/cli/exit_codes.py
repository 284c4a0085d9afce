"""Exit codes that do not come with an error class (docs/commands.md)."""

#: Lines of a file were bad or not delivered.
BAD_LINES = 6
#: A comparison found differences.
DIFFERENCES = 8
#: 128 + SIGINT, as shells count.
INTERRUPTED = 130
