"""`wallet rejections`: list, show and resubmit rejected records."""
