"""Where images, captions and questions come from, and the arrays that they become."""
