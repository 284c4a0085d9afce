package wallet;

/**
 * How Kafka is spoken to and logged in at, in the words of its settings.
 *
 * @param protocol PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL
 * @param mechanism PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512
 * @param ca a PEM file; empty: the authorities that Java trusts
 */
public record Security(String protocol, String mechanism, String user, String password, String ca) {}
