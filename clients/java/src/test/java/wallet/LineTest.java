package wallet;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class LineTest {
  private static final String GOOD =
      "{'transaction_id': '0b0e7d3c-2f65-4c6f-9d5e-000000000001', 'wallet_id': 'alice', 'type': 'CREDIT', "
          + "'amount': 9223372036854775807, 'currency': 'EUR', 'occurred_at': '2026-11-22T10:00:00.000001+01:00'}";

  private static String line(String from, String to) {
    assertTrue(GOOD.contains(from), from);
    return GOOD.replace(from, to).replace('\'', '"');
  }

  @Test
  void aLineIsReadExactly() throws Refused {
    Transaction one =
        Line.read(line("'EUR'", "'EUR', 'group_id': 'rent', 'metadata': {'b': '', 'a': '\u20ac \ud83d\udcb6'}"));
    assertEquals(Long.MAX_VALUE, one.amount());
    assertEquals(1_795_338_000_000_001L, one.occurredUs());
    assertEquals("rent", one.group());
    assertEquals(List.of("b", "a"), List.copyOf(one.metadata().keySet()));
    assertEquals("\u20ac \ud83d\udcb6", one.metadata().get("a"));
  }

  @Test
  void anAmountMayBeTextAndAGroupNull() throws Refused {
    assertEquals(12, Line.read(line("9223372036854775807", "'12'")).amount());
    assertNull(Line.read(line("'EUR'", "'EUR', 'group_id': null")).group());
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      quoteCharacter = '`',
      value = {
        "{'tr | ['tr | JSON object",
        "'EUR', | 'EUR' | JSON object",
        "'EUR' | 'EUR', 'amount': 1 | Duplicate",
        "'EUR' | 'EUR', 'metadata': {'a': '1', 'a': '2'} | Duplicate",
        "'EUR' | 'EUR', 'metadata': {'a': 1} | must be text",
        "'EUR' | 'EUR', 'metadata': ['a'] | metadata",
        "'EUR' | 'EUR', 'cents': 1 | no field",
        "'EUR' | 'eur' | currency",
        "'currency': 'EUR', | `` | currency is lacking",
        "'amount' | 'AMOUNT' | no field",
        "9223372036854775807 | 9223372036854775808 | amount",
        "9223372036854775807 | 1.5 | amount",
        "9223372036854775807 | 0 | amount",
        "9223372036854775807 | true | amount",
        "9223372036854775807 | '9223372036854775808' | amount",
        "'alice' | '' | wallet_id",
        "'alice' | 5 | wallet_id",
        "'alice' | 'a\\u0000' | U+0000",
        "'alice' | 'a\\ud83d' | half a character",
        "'CREDIT' | 'credit' | type",
        "0b0e | 0B0E | transaction_id",
        "+01:00 | `` | occurred_at",
        "2026 | 0000 | occurred_at",
        "+01:00' | +01:00', 'group_id': '' | group_id",
        "+01:00'} | +01:00'} {} | JSON object",
      })
  void aBadLineIsTold(String from, String to, String told) {
    Refused refused = assertThrows(Refused.class, () -> Line.read(line(from, to)));
    assertTrue(refused.getMessage().contains(told), refused.getMessage());
  }

  @Test
  void aWalletHasAtMost128CodePoints() throws Refused {
    assertEquals("\ud83d\udcb6".repeat(128), Line.read(line("alice", "\ud83d\udcb6".repeat(128))).wallet());
    assertThrows(Refused.class, () -> Line.read(line("alice", "\u00e4".repeat(129))));
  }
}
