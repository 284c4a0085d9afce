package rivals;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.util.HexFormat;
import java.util.Map;
import org.apache.avro.io.BinaryDecoder;
import org.apache.avro.io.DecoderFactory;
import org.apache.avro.specific.SpecificDatumReader;
import org.apache.kafka.common.config.ConfigDef;
import org.apache.kafka.connect.data.Schema;
import org.apache.kafka.connect.data.SchemaAndValue;
import org.apache.kafka.connect.data.SchemaBuilder;
import org.apache.kafka.connect.data.Struct;
import org.apache.kafka.connect.errors.DataException;
import org.apache.kafka.connect.storage.Converter;
import wallet.LedgerEntry;
import wallet.Transaction;

/**
 * Ledger entries in Confluent's wire format as flat rows, in Debezium's types.
 *
 * <p>It takes the place of a registry's general converter and of the transformation that flattens, and does less than
 * these: one pass, no look-up of schemas. A task has its own instance.
 */
public final class LedgerConverter implements Converter {
  private static final int SCHEMA_ID = 2;
  private static final int HEADER_BYTES = 5;
  private static final int HASH_BYTES = 32;

  private static final HexFormat HEX = HexFormat.of();

  private static final Schema ROW =
      SchemaBuilder.struct()
          .name("wallet.Row")
          .field("wallet_id", Schema.STRING_SCHEMA)
          .field("sequence", Schema.INT64_SCHEMA)
          .field("transaction_id", SchemaBuilder.string().name("io.debezium.data.Uuid").version(1).build())
          .field("type", Schema.STRING_SCHEMA)
          .field("amount", Schema.INT64_SCHEMA)
          .field("currency", Schema.STRING_SCHEMA)
          .field("occurred_at", time())
          .field("group_id", Schema.OPTIONAL_STRING_SCHEMA)
          .field("metadata", SchemaBuilder.string().name("io.debezium.data.Json").version(1).build())
          .field("balance", Schema.INT64_SCHEMA)
          .field("recorded_at", time())
          .field("source_partition", Schema.INT32_SCHEMA)
          .field("source_offset", Schema.INT64_SCHEMA)
          .field("hash", Schema.STRING_SCHEMA)
          .field("entry", Schema.STRING_SCHEMA)
          .build();

  private final SpecificDatumReader<LedgerEntry> reader = new SpecificDatumReader<>(LedgerEntry.class);
  private final ObjectMapper json = new ObjectMapper();
  private BinaryDecoder decoder;

  @Override
  public SchemaAndValue toConnectData(String topic, byte[] value) {
    if (value.length < HEADER_BYTES || value[0] != 0 || ByteBuffer.wrap(value).getInt(1) != SCHEMA_ID) {
      throw new DataException("not written with schema " + SCHEMA_ID);
    }
    try {
      decoder =
          DecoderFactory.get().binaryDecoder(value, HEADER_BYTES, value.length - HEADER_BYTES, decoder);
      return new SchemaAndValue(ROW, row(reader.read(null, decoder), value));
    } catch (IOException failure) {
      throw new DataException(failure);
    }
  }

  private Struct row(LedgerEntry entry, byte[] value) throws JsonProcessingException {
    Transaction transaction = entry.getTransaction();
    Map<String, String> metadata = transaction.getMetadata();
    return new Struct(ROW)
        .put("wallet_id", transaction.getWalletId())
        .put("sequence", entry.getSequence())
        .put("transaction_id", transaction.getTransactionId())
        .put("type", transaction.getType().name())
        .put("amount", transaction.getAmount())
        .put("currency", transaction.getCurrency())
        .put("occurred_at", transaction.getOccurredAt().toString())
        .put("group_id", transaction.getGroupId())
        .put("metadata", metadata.isEmpty() ? "{}" : json.writeValueAsString(metadata))
        .put("balance", entry.getBalance())
        .put("recorded_at", entry.getRecordedAt().toString())
        .put("source_partition", entry.getSourcePartition())
        .put("source_offset", entry.getSourceOffset())
        .put("hash", hex(value, value.length - HASH_BYTES, value.length))
        .put("entry", hex(value, HEADER_BYTES, value.length - HASH_BYTES));
  }

  /** As PostgreSQL reads bytea: the connector's one statement a batch cannot take byte arrays. */
  private static String hex(byte[] value, int from, int to) {
    return "\\x" + HEX.formatHex(value, from, to);
  }

  private static Schema time() {
    return SchemaBuilder.string().name("io.debezium.time.ZonedTimestamp").version(1).build();
  }

  @Override
  public byte[] fromConnectData(String topic, Schema schema, Object value) {
    throw new DataException("a sink writes nothing to Kafka");
  }

  @Override
  public void configure(Map<String, ?> settings, boolean isKey) {}

  @Override
  public ConfigDef config() {
    return new ConfigDef();
  }
}
