"""One study, from configuration to Pareto front: the only package that knows Ray Tune and Optuna."""
