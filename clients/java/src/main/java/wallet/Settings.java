package wallet;

import java.util.Map;

/**
 * Where the pipeline is, by the names that its own programs use.
 *
 * @param registry empty without one: schema ids are fixed
 * @param registryAuth user:password, or empty
 */
public record Settings(String kafka, String prefix, String registry, String registryAuth, Security security) {
  /** From {@code WALLET_*}, as the README lists them. */
  public static Settings ofEnvironment() {
    return new Settings(
        or("WALLET_KAFKA", "127.0.0.1:9092"),
        or("WALLET_PREFIX", "wallet"),
        or("WALLET_REGISTRY", ""),
        or("WALLET_REGISTRY_AUTH", ""),
        new Security(
            or("WALLET_KAFKA_SECURITY_PROTOCOL", "PLAINTEXT"),
            or("WALLET_KAFKA_SASL_MECHANISM", ""),
            or("WALLET_KAFKA_SASL_USERNAME", ""),
            or("WALLET_KAFKA_SASL_PASSWORD", ""),
            or("WALLET_KAFKA_SSL_CA", "")));
  }

  private static String or(String name, String otherwise) {
    Map<String, String> environment = System.getenv();
    String value = environment.getOrDefault(name, "");
    return value.isEmpty() ? otherwise : value;
  }
}
