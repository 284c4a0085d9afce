package wallet;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import com.fasterxml.jackson.databind.JsonNode;
import java.io.IOException;
import java.util.Arrays;
import java.util.stream.Stream;
import org.apache.kafka.clients.producer.internals.BuiltInPartitioner;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

class GoldenTest {
  static Stream<JsonNode> vectors() throws IOException {
    return Vectors.all();
  }

  @ParameterizedTest
  @MethodSource("vectors")
  void aTransactionBecomesTheGoldenBytes(JsonNode vector) throws Refused {
    Transaction transaction = Vectors.transaction(vector).checked();
    assertArrayEquals(Vectors.bytes(vector.get("value")), transaction.value(1));
    assertArrayEquals(Vectors.bytes(vector.get("key")), transaction.key());
  }

  @ParameterizedTest
  @MethodSource("vectors")
  void aKeyGoesToTheGoldenPartitions(JsonNode vector) {
    byte[] key = Vectors.bytes(vector.get("key"));
    vector
        .get("partitions")
        .properties()
        .forEach(
            one ->
                assertEquals(
                    one.getValue().intValue(),
                    // what the default partitioner asks
                    BuiltInPartitioner.partitionForKey(key, Integer.parseInt(one.getKey()))));
  }

  @ParameterizedTest
  @MethodSource("vectors")
  void anEntryIsReadExactly(JsonNode vector) throws Refused {
    JsonNode wanted = vector.get("entry");
    Entry entry = Entry.read(Vectors.bytes(wanted.get("value")), 2);
    assertEquals(Vectors.transaction(vector), entry.transaction());
    assertEquals(Vectors.number(wanted.get("sequence")), entry.sequence());
    assertEquals(Vectors.number(wanted.get("balance")), entry.balance());
    assertEquals(Vectors.number(wanted.get("recorded_at_ms")), entry.recordedMs());
    assertEquals(wanted.get("source_partition").intValue(), entry.sourcePartition());
    assertEquals(Vectors.number(wanted.get("source_offset")), entry.sourceOffset());
    assertArrayEquals(Vectors.bytes(wanted.get("hash")), entry.hash());
  }

  @Test
  void entriesFollowEachOtherOnce() throws IOException, Refused {
    Chain chain = new Chain();
    for (JsonNode vector : Vectors.all().toList()) {
      byte[] key = Vectors.bytes(vector.get("key"));
      Entry entry = Entry.read(Vectors.bytes(vector.at("/entry/value")), 2);
      chain.follow(key, entry);
      assertThrows(Refused.class, () -> chain.follow(key, entry), "it follows itself");
    }
    assertEquals(Vectors.all().count(), chain.entries());
    assertEquals(Vectors.all().map(vector -> vector.get("key")).distinct().count(), chain.wallets());
  }

  @Test
  void anEntryThatWasAlteredDoesNotFollow() throws IOException, Refused {
    byte[] value = Vectors.bytes(Vectors.all().findFirst().orElseThrow().at("/entry/value"));
    byte[] key = Entry.read(value, 2).transaction().key();
    new Chain().follow(key, Entry.read(value, 2));
    for (int at = Schemas.FRAME_BYTES; at < value.length; at++) {
      byte[] altered = value.clone();
      altered[at] ^= 2;
      assertThrows(Refused.class, () -> new Chain().follow(key, Entry.read(altered, 2)), "byte " + at);
    }
    assertThrows(Refused.class, () -> new Chain().follow(new byte[] {1}, Entry.read(value, 2)), "another key");
  }

  @ParameterizedTest
  @MethodSource("vectors")
  void damagedBytesAreNoEntry(JsonNode vector) {
    byte[] value = Vectors.bytes(vector.at("/entry/value"));
    for (int cut = 0; cut < value.length; cut++) {
      byte[] some = Arrays.copyOf(value, cut);
      assertThrows(Refused.class, () -> Entry.read(some, 2), cut + " bytes");
    }
    assertThrows(Refused.class, () -> Entry.read(Arrays.copyOf(value, value.length + 1), 2), "a byte too many");
    assertThrows(Refused.class, () -> Entry.read(value, 1), "another schema id");
  }
}
