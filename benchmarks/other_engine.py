"""What other engines are measured with: the same input, one process, at least once, an output to count."""

from benchmarks.filling import fill, transactions
from benchmarks.measurement import Measurement, watch
from benchmarks.place import Place
from operations.setup.init import create
from topics.cluster import offsets, quiet_admin
from topics.names import Topics, TopicSpec


def measure(
    place: Place, prefix: str, name: str, command: tuple[str, ...], events: int, wallets: int
) -> Measurement:
    """Run a program that writes one record to `<prefix>.output` for each transaction that it reads.

    It is called with the bootstrap servers, the prefix, the number of partitions and a folder. The window
    goes from its first output to its last, so joining the group and recovering the table are not in it.
    """
    settings = place.settings.model_copy(update={"prefix": prefix})
    client = quiet_admin(settings)
    source, output = Topics.of(settings).transactions, f"{prefix}.output"
    create(client, [TopicSpec(topic, settings.partitions) for topic in (source, output)], 1)
    fill(settings, transactions(events, wallets, settings.partitions), events)
    folder = place.folder / prefix
    folder.mkdir()

    def done() -> int:
        return sum(at.end for at in offsets(client, {output: settings.partitions}).values())

    with place.children(settings) as children:
        child = children.start_command(
            prefix, *command, settings.kafka, prefix, str(settings.partitions), str(folder)
        )
        return watch(name, child.pid, done, events, children.check)
