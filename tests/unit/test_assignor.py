"""Which worker gets which partition: even shares, whoever had what before, and a warm copy where there is one."""

from faust.assignor.client_assignment import CopartitionedAssignment
from hypothesis import given
from hypothesis import strategies as st

from streams.faust.assignor import EvenAssignor


@st.composite
def groups(draw: st.DrawFn) -> tuple[int, int, dict[str, CopartitionedAssignment]]:
    """Partitions, standbys, and what each member of a group had; members that had nothing have just come."""
    partitions, standbys = draw(st.integers(1, 12)), draw(st.integers(0, 2))
    members = {str(number): CopartitionedAssignment() for number in range(draw(st.integers(1, 6)))}
    names = st.sampled_from([*members, "one that has gone"])
    for partition in range(partitions):
        if (owner := draw(names)) in members:
            members[owner].actives.add(partition)
        for holder in draw(st.sets(names, max_size=standbys)) - {owner, "one that has gone"}:
            members[holder].standbys.add(partition)
    return partitions, standbys, members


def shared(
    partitions: int, standbys: int, members: dict[str, CopartitionedAssignment]
) -> dict[str, CopartitionedAssignment]:
    found = EvenAssignor({"input"}, members, partitions, standbys).get_assignment()
    return dict(found)


@given(groups())
def test_each_partition_has_one_writer_and_shares_differ_by_one_at_most(
    group: tuple[int, int, dict[str, CopartitionedAssignment]],
) -> None:
    partitions, standbys, members = group
    before = {name: set(one.actives) for name, one in members.items()}
    found = shared(partitions, standbys, members)
    assert sorted(at for one in found.values() for at in one.actives) == [*range(partitions)]
    sizes = [len(one.actives) for one in found.values()]
    assert max(sizes) - min(sizes) <= 1
    copies = min(standbys, len(members) - 1)
    assert sorted(at for one in found.values() for at in one.standbys) == sorted(
        [*range(partitions)] * copies
    )
    for name, one in found.items():
        assert not one.actives & one.standbys
        # A member loses a partition only when it has too many.
        assert one.actives >= before[name] or len(one.actives) >= partitions // len(members)


def test_a_member_that_came_for_one_that_left_gets_a_share_though_others_hold_warm_copies() -> None:
    # Seen on a real broker: both partitions went to those with copies, and the new member had none, for good.
    first = CopartitionedAssignment({3}, {1})
    second = CopartitionedAssignment({2}, {0})
    found = shared(4, 1, {"first": first, "second": second, "new": CopartitionedAssignment()})
    assert sorted(len(one.actives) for one in found.values()) == [1, 1, 2]
    assert found["first"].actives >= {3}
    assert found["second"].actives >= {2}


def test_a_warm_copy_becomes_the_writer() -> None:
    found = shared(4, 1, {"left": CopartitionedAssignment({0, 1}, {2, 3}), "new": CopartitionedAssignment()})
    assert found["left"].actives == {0, 1}
    found = shared(3, 1, {name: CopartitionedAssignment({at}, {2} - {at}) for at, name in enumerate("ab")})
    assert sum(2 in one.actives for one in found.values()) == 1
