"""Figures of studies, a file a subject and a function a figure, each to a matplotlib Figure for ``analysis.style.save``.

Each function says in its docstring what it draws, in which units. What there is no data for is said by a sentence in
empty axes.
"""
