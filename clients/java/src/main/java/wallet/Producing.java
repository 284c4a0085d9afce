package wallet;

import java.io.BufferedReader;
import java.io.IOException;
import java.nio.charset.CharacterCodingException;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.atomic.AtomicReference;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.Producer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** Sends every transaction of a file of JSON Lines. */
final class Producing {
  private static final int MOST_RECORD_BYTES = 262_144;
  private static final int CONNECT_MS = 10_000;
  private static final int DELIVERY_MS = 60_000;

  /** Nothing lost, nothing twice. The partitioner is the default: murmur2 of the key. */
  private static final Map<String, Object> FIXED =
      Map.of(
          "acks", "all",
          "enable.idempotence", true,
          "compression.type", "lz4",
          "linger.ms", 20,
          "request.timeout.ms", 20_000,
          "delivery.timeout.ms", DELIVERY_MS,
          "max.block.ms", DELIVERY_MS);

  private interface Take {
    void transaction(Transaction transaction) throws Refused;
  }

  private Producing() {}

  /**
   * How many were sent, once each is confirmed. The file is read to its end first: nothing is sent of one that has a
   * bad line.
   */
  static long send(Settings settings, Path file) throws Refused, IOException {
    String topic = settings.prefix() + ".transactions";
    eachLine(file, transaction -> {});
    int schemaId = Schemas.id(settings, topic, Schemas.TRANSACTION_TEXT, 1);
    checkTopic(settings, topic);
    AtomicReference<String> failed = new AtomicReference<>();
    Map<String, Object> properties = Kafka.with(settings, FIXED);
    long sent;
    try (Producer<byte[], byte[]> producer =
        new KafkaProducer<>(properties, new ByteArraySerializer(), new ByteArraySerializer())) {
      sent =
          eachLine(
              file,
              transaction -> {
                ProducerRecord<byte[], byte[]> record =
                    new ProducerRecord<>(topic, transaction.key(), transaction.value(schemaId));
                producer.send(record, (__, error) -> told(failed, transaction, error));
                check(failed);
              });
      producer.flush();
    } catch (KafkaException error) {
      throw new Refused("not every transaction was confirmed: " + error.getMessage());
    }
    check(failed);
    return sent;
  }

  private static void told(AtomicReference<String> failed, Transaction transaction, Exception error) {
    if (error != null) {
      failed.compareAndSet(
          null, "transaction " + transaction.id() + " was not delivered: " + error.getMessage());
    }
  }

  private static void check(AtomicReference<String> failed) throws Refused {
    if (failed.get() != null) {
      throw new Refused(failed.get());
    }
  }

  /** A producer would make a topic that is not there, where the broker lets it, with any number of partitions. */
  private static void checkTopic(Settings settings, String topic) throws Refused {
    Map<String, Object> patience = Map.of("default.api.timeout.ms", CONNECT_MS, "request.timeout.ms", CONNECT_MS);
    try (Admin admin = Admin.create(Kafka.with(settings, patience))) {
      admin.describeTopics(List.of(topic)).allTopicNames().get();
    } catch (ExecutionException error) {
      throw new Refused(topic + " cannot be written to at " + settings.kafka() + ": " + error.getCause().getMessage());
    } catch (InterruptedException error) {
      throw new Refused("interrupted");
    }
  }

  /** Gives the transaction of each line that is not blank, and tells how many there were. */
  private static long eachLine(Path file, Take take) throws Refused, IOException {
    long number = 0;
    long good = 0;
    try (BufferedReader lines = Files.newBufferedReader(file)) {
      for (String line = lines.readLine(); line != null; line = lines.readLine()) {
        number++;
        if (!line.isBlank()) {
          take.transaction(parsed(number, line));
          good++;
        }
      }
    } catch (CharacterCodingException error) {
      throw new Refused(file + " is not UTF-8, after line " + number);
    } catch (NoSuchFileException error) {
      throw new Refused(file + " is not there");
    }
    return good;
  }

  private static Transaction parsed(long number, String line) throws Refused {
    try {
      Transaction transaction = Line.read(line);
      int size = transaction.key().length + transaction.value(0).length;
      if (size > MOST_RECORD_BYTES) {
        throw new Refused("key and value have " + size + " bytes, at most " + MOST_RECORD_BYTES + " are taken");
      }
      return transaction;
    } catch (Refused reason) {
      throw new Refused("line " + number + ": " + reason.getMessage());
    }
  }
}
