"""One distillation trial: data, teacher, student, losses, training loop and evaluation. The only package that knows torch."""
