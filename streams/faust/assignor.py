"""Which worker writes a partition, and which one keeps a warm copy of it.

Faust's assignor knows both and promotes a warm copy when a worker is gone. With standbys it lets a worker
hold up to ⌈partitions / workers⌉, which can leave the last worker with nothing; here the shares differ by one
at most, and a worker loses a partition only when it has too many.
"""

from collections.abc import MutableMapping

from faust.assignor import partition_assignor
from faust.assignor.client_assignment import CopartitionedAssignment
from faust.assignor.copartitioned_assignor import CopartitionedAssignor


class EvenAssignor(CopartitionedAssignor):
    """Shares that differ by one partition at most."""

    def get_assignment(self) -> MutableMapping[str, CopartitionedAssignment]:
        """Take away surplus partitions, then let Faust assign them: to a standby first, otherwise in turn."""
        larger_shares = self.num_partitions - self.min_capacity * self._num_clients
        by_size = sorted(self._client_assignments.values(), key=lambda one: -len(one.actives))
        for one in by_size:
            larger = larger_shares > 0 and len(one.actives) > self.min_capacity
            larger_shares -= larger
            one.unassign_extras(self.min_capacity + larger, self.replicas)
        self._assign(active=True)
        self._assign(active=False)
        return self._client_assignments

    def _client_exhausted(
        self, assignment: CopartitionedAssignment, active: bool, client_limit: int | None = None
    ) -> bool:
        """Whether a worker has its share. Faust lets each have a larger one, until nothing is left for the last."""
        if not active or client_limit is not None:
            return bool(super()._client_exhausted(assignment, active, client_limit))
        larger_shares = self.num_partitions - self.min_capacity * self._num_clients
        taken = sum(len(one.actives) > self.min_capacity for one in self._client_assignments.values())
        return len(assignment.actives) >= self.min_capacity + (taken < larger_shares)


# Faust's PartitionAssignor uses this class by name and offers no other hook.
partition_assignor.CopartitionedAssignor = EvenAssignor  # type: ignore[attr-defined]


class PartitionAssignor(partition_assignor.PartitionAssignor):
    """Faust's assignor, with even shares."""
