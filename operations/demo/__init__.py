"""`wallet demo`: run the whole pipeline on mixed input and check every balance."""
