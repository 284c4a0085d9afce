"""Others that do the same work: each as its own documentation recommends, tuned in good faith."""
