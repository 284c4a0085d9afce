"""`wallet verify`: audit everything the pipeline wrote against a fold of its input. It only reads."""
