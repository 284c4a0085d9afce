package rivals;

import java.io.IOException;
import java.io.Reader;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Properties;
import java.util.Set;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorSupplier;
import org.apache.kafka.streams.state.StoreBuilder;
import org.apache.kafka.streams.state.Stores;
import wallet.Balance;

/**
 * The wallet on Kafka Streams: KAFKA INPUT PREFIX PARTITIONS FOLDER, and -Drival.settings=FILE.
 *
 * <p>Reads the transactions of INPUT and writes PREFIX.ledger and PREFIX.rejections. Balances and known ids are in
 * RocksDB below FOLDER; the changelog of the balances is their topic, as it is for the worker.
 */
public final class Wallet {
  static final String BALANCES = "balances";
  static final String IDS = "ids";
  static final String LEDGER = "ledger";
  static final String REJECTIONS = "rejections";

  private Wallet() {}

  /** Runs until it is told to stop. */
  public static void main(String[] arguments) throws IOException {
    String input = arguments[1];
    String prefix = arguments[2];
    Properties settings = new Properties();
    try (Reader reader = Files.newBufferedReader(Path.of(System.getProperty("rival.settings")))) {
      settings.load(reader);
    }
    settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, arguments[0]);
    settings.put(StreamsConfig.APPLICATION_ID_CONFIG, prefix);
    settings.put(StreamsConfig.STATE_DIR_CONFIG, arguments[4]);
    KafkaStreams streams = new KafkaStreams(topology(input, prefix), settings);
    streams.setUncaughtExceptionHandler(failure -> StreamThreadExceptionResponse.SHUTDOWN_CLIENT);
    streams.setStateListener(
        (now, before) -> {
          if (now == KafkaStreams.State.ERROR) {
            Runtime.getRuntime().halt(1);
          }
        });
    Runtime.getRuntime().addShutdownHook(new Thread(streams::close));
    streams.start();
  }

  /** One processor with two stores between the input and two topics. */
  static Topology topology(String input, String prefix) {
    ByteArrayDeserializer read = new ByteArrayDeserializer();
    ByteArraySerializer write = new ByteArraySerializer();
    return new Topology()
        .addSource("transactions", read, read, input)
        .addProcessor("wallet", new Posting(), "transactions")
        .addSink(LEDGER, prefix + ".ledger", write, write, "wallet")
        .addSink(REJECTIONS, prefix + ".rejections", write, write, "wallet");
  }

  private static final class Posting implements ProcessorSupplier<byte[], byte[], byte[], byte[]> {
    @Override
    public Processor<byte[], byte[], byte[], byte[]> get() {
      return new PostTransaction();
    }

    @Override
    public Set<StoreBuilder<?>> stores() {
      return Set.of(
          // Cached, so that a commit writes one record a touched wallet into the changelog.
          Stores.keyValueStoreBuilder(
                  Stores.persistentKeyValueStore(BALANCES),
                  Serdes.ByteArray(),
                  new AvroSerde<>(AvroSerde.BALANCE_ID, Balance.class))
              .withCachingEnabled(),
          // An id comes once: there is nothing for a cache to spare.
          Stores.keyValueStoreBuilder(
              Stores.persistentKeyValueStore(IDS), Serdes.ByteArray(), Serdes.Long()));
    }
  }
}
