package wallet;

import java.time.Duration;
import java.time.Instant;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.consumer.Consumer;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/** Follows the ledger from its beginning to its end as of the start. */
final class Reading {
  private static final Duration SILENCE = Duration.ofSeconds(30);
  private static final Duration POLL = Duration.ofMillis(500);

  private static final Map<String, Object> FIXED =
      Map.of(
          "isolation.level", "read_committed", // the default shows entries that were rolled back
          "auto.offset.reset", "none", // never jump over entries
          "enable.auto.commit", false,
          "default.api.timeout.ms", 10_000,
          "request.timeout.ms", 10_000);

  private Reading() {}

  /** The chain of every entry; refuses the first entry that does not follow, by its partition and offset. */
  static Chain follow(Settings settings) throws Refused {
    String topic = settings.prefix() + ".ledger";
    int schemaId = Schemas.id(settings, topic, Schemas.ENTRY_TEXT, 2);
    Map<String, Object> properties = Kafka.with(settings, FIXED);
    try (Consumer<byte[], byte[]> consumer =
        new KafkaConsumer<>(properties, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
      List<TopicPartition> partitions =
          consumer.partitionsFor(topic).stream().map(one -> new TopicPartition(topic, one.partition())).toList();
      if (partitions.isEmpty()) { // what Kafka's client answers for a topic that is not there
        throw new Refused(topic + " is not there: does WALLET_PREFIX name the pipeline?");
      }
      consumer.assign(partitions);
      consumer.seekToBeginning(partitions);
      return follow(consumer, schemaId, new HashMap<>(consumer.endOffsets(partitions)));
    } catch (KafkaException error) {
      throw new Refused(topic + " cannot be read from " + settings.kafka() + ": " + error.getMessage());
    }
  }

  private static Chain follow(Consumer<byte[], byte[]> consumer, int schemaId, Map<TopicPartition, Long> unread)
      throws Refused {
    Chain chain = new Chain();
    Instant heard = Instant.now();
    // A partition is read when the position is at the end; its last offset is no record but a transaction's mark.
    while (unread.entrySet().removeIf(one -> consumer.position(one.getKey()) >= one.getValue()) || !unread.isEmpty()) {
      for (ConsumerRecord<byte[], byte[]> record : consumer.poll(POLL)) {
        heard = Instant.now();
        Long end = unread.get(new TopicPartition(record.topic(), record.partition()));
        if (end != null && record.offset() < end) {
          take(chain, record, schemaId);
        }
      }
      if (heard.plus(SILENCE).isBefore(Instant.now())) {
        throw new Refused("the ledger could not be read to its end: nothing came for " + SILENCE.toSeconds() + " s");
      }
    }
    return chain;
  }

  private static void take(Chain chain, ConsumerRecord<byte[], byte[]> record, int schemaId) throws Refused {
    try {
      chain.follow(record.key(), Entry.read(record.value(), schemaId));
    } catch (Refused reason) {
      String where = record.topic() + " " + record.partition() + ":" + record.offset();
      throw new Refused(where + ": " + reason.getMessage());
    }
  }
}
