"""One study, from configuration to Pareto front: the only package that knows Ray Tune and Optuna.

In Python, ``from study import Study`` does what the commands do (`study.study`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from study.errors import UserError as UserError
    from study.study import Study as Study

__all__ = ["Study", "UserError"]


def __getattr__(name: str) -> object:
    """Imports what the package offers only when it is asked for: most modules of it need nothing of that."""
    if name == "Study":
        from study.study import Study

        return Study
    if name == "UserError":
        from study.errors import UserError

        return UserError
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
