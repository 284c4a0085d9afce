package wallet;

import java.util.HashMap;
import java.util.Map;

/** What every client of Kafka is told. For TLS and SASL, this is the place. */
final class Kafka {
  private Kafka() {}

  static Map<String, Object> with(Settings settings, Map<String, Object> more) {
    Map<String, Object> properties = new HashMap<>(more);
    properties.put("bootstrap.servers", settings.kafka());
    properties.put("enable.metrics.push", false);
    return properties;
  }
}
