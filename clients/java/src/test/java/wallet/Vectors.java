package wallet;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.json.JsonMapper;
import java.io.IOException;
import java.nio.file.Path;
import java.util.HexFormat;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.stream.Stream;
import java.util.stream.StreamSupport;

/** The golden vectors that every client is tested against; numbers of 64 bits are strings there. */
final class Vectors {
  private static final Path FILE = Path.of("..", "vectors", "ledger.json");

  private Vectors() {}

  static Stream<JsonNode> all() throws IOException {
    return StreamSupport.stream(new JsonMapper().readTree(FILE.toFile()).required("vectors").spliterator(), false);
  }

  static byte[] bytes(JsonNode hex) {
    return HexFormat.of().parseHex(hex.textValue());
  }

  static Transaction transaction(JsonNode vector) {
    JsonNode told = vector.get("transaction");
    Map<String, String> metadata = new LinkedHashMap<>();
    told.get("metadata").forEach(pair -> metadata.put(pair.get(0).textValue(), pair.get(1).textValue()));
    return new Transaction(
        told.get("transaction_id").textValue(),
        told.get("wallet_id").textValue(),
        told.get("type").textValue(),
        number(told.get("amount")),
        told.get("currency").textValue(),
        number(told.get("occurred_at_us")),
        told.get("group_id").textValue(),
        metadata);
  }

  static long number(JsonNode text) {
    return Long.parseLong(text.asText());
  }
}
