package rivals;

import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.time.Instant;
import java.util.UUID;
import org.apache.kafka.common.errors.SerializationException;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.processor.api.RecordMetadata;
import org.apache.kafka.streams.state.KeyValueStore;
import wallet.Balance;
import wallet.Hash;
import wallet.LedgerEntry;
import wallet.Transaction;
import wallet.TransactionType;

/** Gives a transaction its entry in its wallet's chain, or rejects it. */
final class PostTransaction implements Processor<byte[], byte[], byte[], byte[]> {
  private static final int HASH_BYTES = 32;
  private static final byte[] NO_HASH = new byte[HASH_BYTES];

  private final AvroSerde<Transaction> transactions =
      new AvroSerde<>(AvroSerde.TRANSACTION_ID, Transaction.class);
  private final AvroSerde<LedgerEntry> entries = new AvroSerde<>(AvroSerde.ENTRY_ID, LedgerEntry.class);
  private final MessageDigest sha256;
  private ProcessorContext<byte[], byte[]> context;
  private KeyValueStore<byte[], Balance> balances;
  private KeyValueStore<byte[], Long> ids;

  PostTransaction() {
    try {
      sha256 = MessageDigest.getInstance("SHA-256");
    } catch (NoSuchAlgorithmException impossible) {
      throw new IllegalStateException(impossible);
    }
  }

  @Override
  public void init(ProcessorContext<byte[], byte[]> context) {
    this.context = context;
    balances = context.getStateStore(Wallet.BALANCES);
    ids = context.getStateStore(Wallet.IDS);
  }

  @Override
  public void process(Record<byte[], byte[]> record) {
    RecordMetadata source = context.recordMetadata().orElseThrow();
    Transaction transaction;
    try {
      transaction = transactions.deserialize(source.topic(), record.value());
    } catch (SerializationException failure) {
      reject(record, source, "UNDECODABLE");
      return;
    }
    byte[] wallet = record.key();
    byte[] id = idKey(wallet, transaction.getTransactionId());
    if (ids.get(id) != null) {
      reject(record, source, "DUPLICATE");
      return;
    }
    Balance before = balances.get(wallet);
    if (before != null && !before.getCurrency().equals(transaction.getCurrency())) {
      reject(record, source, "CURRENCY_MISMATCH");
      return;
    }
    long amount = transaction.getType() == TransactionType.CREDIT ? transaction.getAmount() : -transaction.getAmount();
    long balance;
    try {
      balance = Math.addExact(before == null ? 0 : before.getBalance(), amount);
    } catch (ArithmeticException overflow) {
      reject(record, source, "OVERFLOW");
      return;
    }
    post(record, source, transaction, id, before, balance);
  }

  private void post(
      Record<byte[], byte[]> record,
      RecordMetadata source,
      Transaction transaction,
      byte[] id,
      Balance before,
      long balance) {
    long sequence = before == null ? 1 : before.getSequence() + 1;
    Instant recordedAt = Instant.ofEpochMilli(record.timestamp());
    LedgerEntry entry =
        new LedgerEntry(
            transaction, sequence, balance, recordedAt, source.partition(), source.offset(), new Hash(NO_HASH));
    byte[] value = entries.serialize(null, entry);
    byte[] hash = chain(before == null ? NO_HASH : before.getHash().bytes(), value);
    ids.put(id, sequence);
    balances.put(
        record.key(),
        new Balance(
            transaction.getWalletId(),
            transaction.getCurrency(),
            balance,
            sequence,
            recordedAt,
            source.partition(),
            source.offset(),
            new Hash(hash)));
    context.forward(record.withValue(value), Wallet.LEDGER);
  }

  /** Hashes what comes before the hash, which is the value's last field, and puts it there. */
  private byte[] chain(byte[] previous, byte[] value) {
    int end = value.length - HASH_BYTES;
    sha256.update(previous);
    sha256.update(value, AvroSerde.HEADER_BYTES, end - AvroSerde.HEADER_BYTES);
    byte[] hash = sha256.digest();
    System.arraycopy(hash, 0, value, end, HASH_BYTES);
    return hash;
  }

  private void reject(Record<byte[], byte[]> record, RecordMetadata source, String reason) {
    record.headers().add("rejection.reason", reason.getBytes(StandardCharsets.UTF_8));
    record.headers().add("rejection.partition", text(source.partition()));
    record.headers().add("rejection.offset", text(source.offset()));
    context.forward(record, Wallet.REJECTIONS);
  }

  private static byte[] text(long number) {
    return Long.toString(number).getBytes(StandardCharsets.UTF_8);
  }

  /** The wallet, then the 16 bytes of the id: an id is known within its wallet. */
  private static byte[] idKey(byte[] wallet, String transactionId) {
    UUID id = UUID.fromString(transactionId);
    return ByteBuffer.allocate(wallet.length + 16)
        .put(wallet)
        .putLong(id.getMostSignificantBits())
        .putLong(id.getLeastSignificantBits())
        .array();
  }
}
