package wallet;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.core.StreamReadFeature;
import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.json.JsonMapper;
import java.time.DateTimeException;
import java.time.Instant;
import java.time.OffsetDateTime;
import java.util.Iterator;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Set;

/** One line of JSON as {@code wallet send} takes it. */
final class Line {
  static final String NO_AMOUNT = "amount must be a whole number of minor units, 1 to 2^63-1";

  private static final Set<String> OPTIONAL = Set.of("group_id", "metadata");
  private static final Set<String> NEEDED =
      Set.of("transaction_id", "wallet_id", "type", "amount", "currency", "occurred_at");
  private static final JsonMapper JSON =
      JsonMapper.builder()
          .enable(StreamReadFeature.STRICT_DUPLICATE_DETECTION)
          .enable(DeserializationFeature.FAIL_ON_TRAILING_TOKENS)
          .build();

  private Line() {}

  static Transaction read(String line) throws Refused {
    JsonNode fields;
    try {
      fields = JSON.readTree(line);
    } catch (JsonProcessingException error) {
      throw new Refused("it is not one JSON object: " + error.getOriginalMessage());
    }
    if (!fields.isObject()) {
      throw new Refused("it is not a JSON object");
    }
    for (Iterator<String> names = fields.fieldNames(); names.hasNext(); ) {
      String name = names.next();
      if (!NEEDED.contains(name) && !OPTIONAL.contains(name)) {
        throw new Refused("there is no field \"" + name + "\"");
      }
    }
    JsonNode group = fields.path("group_id");
    return new Transaction(
            text(fields, "transaction_id"),
            text(fields, "wallet_id"),
            text(fields, "type"),
            amount(fields.path("amount")),
            text(fields, "currency"),
            microseconds(text(fields, "occurred_at")),
            group.isMissingNode() || group.isNull() ? null : text(fields, "group_id"),
            metadata(fields.path("metadata")))
        .checked();
  }

  private static String text(JsonNode object, String name) throws Refused {
    JsonNode value = object.path(name);
    if (value.isMissingNode()) {
      throw new Refused(name + " is lacking");
    }
    if (!value.isTextual()) {
      throw new Refused(name + " must be text");
    }
    return value.textValue();
  }

  /** A whole number, or text of digits. */
  private static long amount(JsonNode value) throws Refused {
    if (value.isIntegralNumber() && value.canConvertToLong()) {
      return value.longValue();
    }
    try {
      if (value.isTextual() && value.textValue().matches("[0-9]+")) {
        return Long.parseLong(value.textValue());
      }
    } catch (NumberFormatException tooLarge) {
      throw new Refused(NO_AMOUNT);
    }
    throw new Refused(value.isMissingNode() ? "amount is lacking" : NO_AMOUNT);
  }

  private static long microseconds(String text) throws Refused {
    try {
      Instant moment = OffsetDateTime.parse(text).toInstant();
      return Math.addExact(Math.multiplyExact(moment.getEpochSecond(), 1_000_000L), moment.getNano() / 1_000);
    } catch (DateTimeException | ArithmeticException error) {
      throw new Refused("occurred_at must be like 2026-11-22T10:00:00Z");
    }
  }

  private static Map<String, String> metadata(JsonNode value) throws Refused {
    Map<String, String> found = new LinkedHashMap<>();
    if (!value.isObject() && !value.isMissingNode() && !value.isNull()) {
      throw new Refused("metadata must be an object of texts");
    }
    for (Iterator<String> names = value.fieldNames(); names.hasNext(); ) {
      String name = names.next();
      if (!value.get(name).isTextual()) {
        throw new Refused("metadata." + name + " must be text");
      }
      found.put(name, value.get(name).textValue());
    }
    return found;
  }
}
