"""Finished or running studies, from their files to frames, Pareto fronts and figures: no Ray, no torch."""
