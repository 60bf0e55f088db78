"""What may be searched: YAML spaces, and the code that turns one into a define-by-run space."""
