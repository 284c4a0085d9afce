package wallet;

import java.io.IOException;
import java.util.Arrays;
import org.apache.avro.generic.GenericData;
import org.apache.avro.generic.GenericDatumReader;
import org.apache.avro.generic.GenericRecord;
import org.apache.avro.io.BinaryDecoder;
import org.apache.avro.io.DecoderFactory;

/**
 * A transaction in its wallet's sequence.
 *
 * @param balance the wallet's after it, minor units
 * @param body the bytes that its hash covers, with the hash before it
 */
public record Entry(
    Transaction transaction,
    long sequence,
    long balance,
    long recordedMs,
    int sourcePartition,
    long sourceOffset,
    byte[] hash,
    byte[] body) {

  static final int HASH_BYTES = 32;

  /** From the value of a record of the ledger, all of it. */
  static Entry read(byte[] value, int schemaId) throws Refused {
    byte[] frame = Schemas.frame(schemaId);
    if (value == null || Arrays.mismatch(value, frame) != frame.length) {
      throw new Refused("the value does not begin with a zero and schema id " + schemaId);
    }
    BinaryDecoder decoder =
        DecoderFactory.get().binaryDecoder(value, frame.length, value.length - frame.length, null);
    try {
      GenericRecord read = new GenericDatumReader<GenericRecord>(Schemas.ENTRY).read(null, decoder);
      if (!decoder.isEnd()) {
        throw new Refused("the value goes on after its entry");
      }
      return new Entry(
          Transaction.of((GenericRecord) read.get("transaction")),
          (long) read.get("sequence"),
          (long) read.get("balance"),
          (long) read.get("recorded_at"),
          (int) read.get("source_partition"),
          (long) read.get("source_offset"),
          ((GenericData.Fixed) read.get("hash")).bytes(),
          Arrays.copyOfRange(value, frame.length, value.length - HASH_BYTES));
    } catch (IOException | RuntimeException error) { // Avro's library throws many kinds for bytes that are not legal
      throw new Refused("the bytes are no ledger entry: " + error);
    }
  }
}
