"""What ended trials still hold of a cluster, given back: those that wait for it would wait for ever.

The workers of a trial sit in a placement group, whose creator is the trial's Train controller. When Tune stops a trial,
its controller dies without removing the group, and Ray removes what a dead actor has created only when its job, which
is the whole study, has ended too; until then neither a trial nor a stage has that room. After a driver that was killed
such a group was seen to outlive its job as well. Ray Train 2.60 has a detached actor that looks after this by the
dashboard's State API, and that does nothing where there is no dashboard, or when a request to it fails in an unforeseen
way. Ray's own tables, which are asked here, need neither.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import ray
from ray._private.state import state
from ray.core.generated.gcs_pb2 import PlacementGroupTableData
from ray.util.placement_group import PlacementGroup, remove_placement_group

_EVERY = 2.0  # seconds
_log = logging.getLogger(__name__)


@contextmanager
def left_groups_removed() -> Iterator[None]:
    """Look after them, in a thread of its own, for as long as the ``with`` block lasts."""
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(_EVERY):
            try:
                if count := remove_left_groups():
                    _log.info("%d placement groups of ended trials were removed", count)
            except Exception as error:  # of a Ray that is just ending, say: the next look may do
                _log.warning("placement groups could not be looked at: %s: %s", type(error).__name__, error)

    thread = threading.Thread(target=look, name="left groups", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(_EVERY)


def remove_left_groups() -> int:
    """Remove the placement groups of this job, and of drivers that have died, whose creators are dead. Returns how many
    there were."""
    own = ray.get_runtime_context().get_job_id()
    # Not by the group's own marks: one that was placed while its driver died was seen to have none.
    over = {job["JobID"] for job in state.job_table() if job["IsDead"]}
    found = 0
    for serialized in state._connect_and_get_accessor().get_placement_group_table():
        group = PlacementGroupTableData.FromString(serialized)
        is_ours = group.creator_job_id.hex() in (own, *over) and not group.is_detached
        if is_ours and group.state != PlacementGroupTableData.REMOVED and _is_dead(group.creator_actor_id):
            remove_placement_group(PlacementGroup(ray.PlacementGroupID(group.placement_group_id)))
            found += 1
    return found


def _is_dead(actor: bytes) -> bool:
    if not actor or ray.ActorID(actor).is_nil():  # the driver made it
        return False
    return bool(state.actor_table(actor.hex()).get("State") == "DEAD")
