package wallet;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.time.Instant;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.regex.Pattern;
import org.apache.avro.generic.GenericData;
import org.apache.avro.generic.GenericDatumWriter;
import org.apache.avro.generic.GenericRecord;
import org.apache.avro.io.BinaryEncoder;
import org.apache.avro.io.EncoderFactory;

/**
 * A credit or debit of a wallet.
 *
 * @param amount minor units
 * @param occurredUs microseconds since 1970, UTC
 * @param group null, or what ties the legs of one movement
 * @param metadata in the order in which they came
 */
public record Transaction(
    String id,
    String wallet,
    String type,
    long amount,
    String currency,
    long occurredUs,
    String group,
    Map<String, String> metadata) {

  private static final int MOST_CHARACTERS = 128;
  private static final List<String> TYPES = List.of("CREDIT", "DEBIT");
  private static final Pattern UUID =
      Pattern.compile("[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}");
  private static final Pattern CURRENCY = Pattern.compile("[A-Z]{3}");
  private static final long FIRST_US = Instant.parse("0001-01-01T00:00:00Z").getEpochSecond() * 1_000_000;
  private static final long AFTER_US = Instant.parse("9999-12-31T23:59:59Z").getEpochSecond() * 1_000_000 + 1_000_000;

  /** What it does to a balance. */
  public long signed() {
    return type.equals("DEBIT") ? -amount : amount;
  }

  /** Refuses what breaks a rule: the ledger would reject it as INVALID. */
  public Transaction checked() throws Refused {
    must(UUID.matcher(id).matches(), "transaction_id must be a UUID in lower case");
    must(fits(wallet), "wallet_id must have 1 to 128 characters");
    must(TYPES.contains(type), "type must be CREDIT or DEBIT");
    must(amount > 0, Line.NO_AMOUNT);
    must(CURRENCY.matcher(currency).matches(), "currency must be three capital letters");
    must(FIRST_US <= occurredUs && occurredUs < AFTER_US, "occurred_at must be in the years 1 to 9999");
    must(group == null || fits(group), "group_id must have 1 to 128 characters");
    text(wallet);
    text(group == null ? "" : group);
    for (Map.Entry<String, String> pair : metadata.entrySet()) {
      text(pair.getKey());
      text(pair.getValue());
    }
    return this;
  }

  private static void must(boolean kept, String rule) throws Refused {
    if (!kept) {
      throw new Refused(rule);
    }
  }

  private static boolean fits(String text) {
    int count = text.codePointCount(0, text.length());
    return 1 <= count && count <= MOST_CHARACTERS;
  }

  private static void text(String text) throws Refused {
    must(text.indexOf('\0') < 0, "no text may hold U+0000");
    // getBytes would write a question mark for half of a surrogate pair: another text, perhaps another wallet
    must(StandardCharsets.UTF_8.newEncoder().canEncode(text), "no text may hold half a character");
  }

  /** The record's key. */
  public byte[] key() {
    return wallet.getBytes(StandardCharsets.UTF_8);
  }

  /** The record's value: frame and Avro body. */
  public byte[] value(int schemaId) {
    GenericRecord record = new GenericData.Record(Schemas.TRANSACTION);
    record.put("transaction_id", id);
    record.put("wallet_id", wallet);
    record.put("type", new GenericData.EnumSymbol(Schemas.TRANSACTION.getField("type").schema(), type));
    record.put("amount", amount);
    record.put("currency", currency);
    record.put("occurred_at", occurredUs);
    record.put("group_id", group);
    record.put("metadata", metadata);
    ByteArrayOutputStream out = new ByteArrayOutputStream();
    BinaryEncoder encoder = EncoderFactory.get().binaryEncoder(out, null);
    try {
      out.write(Schemas.frame(schemaId));
      new GenericDatumWriter<GenericRecord>(Schemas.TRANSACTION).write(record, encoder);
      encoder.flush();
    } catch (IOException impossible) { // it is written to memory
      throw new UncheckedIOException(impossible);
    }
    return out.toByteArray();
  }

  /** From what Avro's library read by {@link Schemas#TRANSACTION}; a map's order is lost in it. */
  static Transaction of(GenericRecord record) {
    Map<String, String> metadata = new LinkedHashMap<>();
    ((Map<?, ?>) record.get("metadata")).forEach((name, text) -> metadata.put(name.toString(), text.toString()));
    Object group = record.get("group_id");
    return new Transaction(
        record.get("transaction_id").toString(),
        record.get("wallet_id").toString(),
        record.get("type").toString(),
        (long) record.get("amount"),
        record.get("currency").toString(),
        (long) record.get("occurred_at"),
        group == null ? null : group.toString(),
        metadata);
  }
}
