"""Exit codes that are no error's (docs/commands.md)."""

#: Lines of a file were bad, or not delivered.
BAD_LINES = 6
#: Something was compared, and differs.
DIFFERENCES = 8
#: As shells count what SIGINT ends.
INTERRUPTED = 130
