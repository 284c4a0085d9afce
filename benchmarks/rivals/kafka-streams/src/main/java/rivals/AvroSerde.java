package rivals;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.util.Map;
import org.apache.avro.io.BinaryDecoder;
import org.apache.avro.io.BinaryEncoder;
import org.apache.avro.io.DecoderFactory;
import org.apache.avro.io.EncoderFactory;
import org.apache.avro.specific.SpecificData;
import org.apache.avro.specific.SpecificDatumReader;
import org.apache.avro.specific.SpecificDatumWriter;
import org.apache.avro.specific.SpecificRecordBase;
import org.apache.kafka.common.errors.SerializationException;
import org.apache.kafka.common.serialization.Deserializer;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serializer;

/**
 * A record class that Avro generated, in Confluent's wire format: a zero byte, four bytes of schema id, the body.
 *
 * <p>Each thread has its own decoder, encoder and buffer and uses them again and again: a store hands one serde to all.
 */
final class AvroSerde<T extends SpecificRecordBase> implements Serde<T>, Serializer<T>, Deserializer<T> {
  static final int TRANSACTION_ID = 1;
  static final int ENTRY_ID = 2;
  static final int BALANCE_ID = 3;
  static final int HEADER_BYTES = 5;

  private final int schemaId;
  private final ThreadLocal<Coder<T>> coders;

  AvroSerde(int schemaId, Class<T> type) {
    this.schemaId = schemaId;
    coders = ThreadLocal.withInitial(() -> new Coder<>(schemaId, type));
  }

  /** The record; throws SerializationException where the value is none of this schema. */
  @Override
  public T deserialize(String topic, byte[] value) {
    if (value == null) {
      return null;
    }
    if (value.length < HEADER_BYTES || value[0] != 0 || ByteBuffer.wrap(value).getInt(1) != schemaId) {
      throw new SerializationException("not written with schema " + schemaId);
    }
    try {
      return coders.get().read(value);
    } catch (IOException failure) {
      throw new SerializationException(failure);
    }
  }

  @Override
  public byte[] serialize(String topic, T record) {
    if (record == null) {
      return null;
    }
    try {
      return coders.get().write(record);
    } catch (IOException failure) {
      throw new SerializationException(failure);
    }
  }

  @Override
  public Serializer<T> serializer() {
    return this;
  }

  @Override
  public Deserializer<T> deserializer() {
    return this;
  }

  @Override
  public void configure(Map<String, ?> settings, boolean isKey) {}

  @Override
  public void close() {}

  private static final class Coder<T extends SpecificRecordBase> {
    private final byte[] header;
    private final SpecificDatumReader<T> reader;
    private final SpecificDatumWriter<T> writer;
    private final ByteArrayOutputStream buffer = new ByteArrayOutputStream(512);
    private BinaryDecoder decoder;
    private BinaryEncoder encoder;

    Coder(int schemaId, Class<T> type) {
      header = ByteBuffer.allocate(HEADER_BYTES).put((byte) 0).putInt(schemaId).array();
      reader = new SpecificDatumReader<>(type);
      writer = new SpecificDatumWriter<>(SpecificData.get().getSchema(type));
    }

    T read(byte[] value) throws IOException {
      decoder =
          DecoderFactory.get().binaryDecoder(value, HEADER_BYTES, value.length - HEADER_BYTES, decoder);
      return reader.read(null, decoder);
    }

    byte[] write(T record) throws IOException {
      buffer.reset();
      buffer.write(header);
      encoder = EncoderFactory.get().binaryEncoder(buffer, encoder);
      writer.write(record, encoder);
      encoder.flush();
      return buffer.toByteArray();
    }
  }
}
