package wallet;

import java.util.HashMap;
import java.util.Map;

/** What every client of Kafka is told: where the brokers are, and how to speak to them. */
final class Kafka {
  private Kafka() {}

  static Map<String, Object> with(Settings settings, Map<String, Object> more) {
    Map<String, Object> properties = new HashMap<>(more);
    properties.put("bootstrap.servers", settings.kafka());
    properties.put("enable.metrics.push", false);
    Security security = settings.security();
    properties.put("security.protocol", security.protocol());
    if (!security.ca().isEmpty()) {
      properties.put("ssl.truststore.type", "PEM");
      properties.put("ssl.truststore.location", security.ca());
    }
    if (security.protocol().startsWith("SASL")) {
      properties.put("sasl.mechanism", security.mechanism());
      properties.put("sasl.jaas.config", login(security));
    }
    return properties;
  }

  private static String login(Security security) {
    String module = security.mechanism().equals("PLAIN") ? "plain.Plain" : "scram.Scram";
    return "org.apache.kafka.common.security." + module + "LoginModule required username=" + quoted(security.user())
        + " password=" + quoted(security.password()) + ";";
  }

  private static String quoted(String text) {
    return "\"" + text.replace("\\", "\\\\").replace("\"", "\\\"") + "\"";
  }
}
