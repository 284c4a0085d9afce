"""`wallet demo`: the whole pipeline on mixed input, and every balance checked."""
