"""`wallet rejections`: what was rejected, shown and sent once more."""
