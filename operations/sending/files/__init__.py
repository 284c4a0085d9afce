"""Files of users: whatever their form, their rows come out as one kind, numbered, or with what is wrong with them."""
