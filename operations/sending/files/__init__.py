"""Users' files: whatever the format, rows come out in one form, numbered, or with what is wrong with them."""
