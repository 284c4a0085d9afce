"""`wallet verify`: an audit of all that the pipeline wrote against a fold of its input; it only reads."""
