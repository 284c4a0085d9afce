"""All code that depends on Faust and aiokafka: what a worker uses of them, and which of their parts it replaces.

`transport` replaces how Faust fetches: a batch of records is one event. `rebalance` replaces its recovery, `table` the
stores of its tables. `assignor` and `group` each replace a class, to change how Faust assigns partitions and how
aiokafka talks to the group's coordinator. All of that depends on parts that are not public.
"""

from topics.versions import WRITTEN_FOR, refuse_others

# Here, because some replacements take effect as soon as their module is imported.
refuse_others(*WRITTEN_FOR)
