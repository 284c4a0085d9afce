"""All that knows Faust and aiokafka: what a worker takes from them, and what it puts in the place of their parts.

`transport` replaces how Faust fetches: a run of records is one event. `rebalance` replaces its recovery, `table` the
stores of its tables. `assignor` and `group` replace, each by naming a class anew, how Faust shares partitions out and
how aiokafka talks to the group's coordinator. All of that leans on parts that neither calls public.
"""

from streams.faust.versions import refuse_others

# Here, because some of it counts from the moment that its module is read.
refuse_others()
