"""Topics as they are read: the records of a partition up to an end that is known, in bounded memory."""
