package wallet;

import com.fasterxml.jackson.databind.json.JsonMapper;
import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.net.URI;
import java.net.URLEncoder;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.Base64;
import java.util.Map;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import org.apache.avro.Schema;

/** The two schemas and their ids. Released versions of schemas never change, so the resources are copies. */
final class Schemas {
  /** A value is a zero, the schema's id in four bytes, and the Avro body (Confluent's wire format). */
  static final int FRAME_BYTES = 5;

  static final String TRANSACTION_TEXT = resource("/transaction.avsc");
  static final String ENTRY_TEXT = resource("/ledger_entry.avsc");
  static final Schema TRANSACTION = new Schema.Parser().parse(TRANSACTION_TEXT);
  static final Schema ENTRY = new Schema.Parser().parse(ENTRY_TEXT);

  private static final Duration PATIENCE = Duration.ofSeconds(10);

  private Schemas() {}

  static byte[] frame(int schemaId) {
    return ByteBuffer.allocate(FRAME_BYTES).put((byte) 0).putInt(schemaId).array();
  }

  /**
   * The id of a schema under a topic's subject: of the schema that this program writes or reads, which need not be the
   * subject's newest. Without a registry it is the fixed one.
   */
  static int id(Settings settings, String topic, String schema, int fixed) throws Refused {
    if (settings.registry().isEmpty()) {
      return fixed;
    }
    String subject = URLEncoder.encode(topic + "-value", StandardCharsets.UTF_8);
    JsonMapper json = new JsonMapper();
    try {
      String question = json.writeValueAsString(Map.of("schema", schema, "schemaType", "AVRO"));
      URI address = URI.create(settings.registry().replaceAll("/+$", "") + "/subjects/" + subject + "?deleted=true");
      HttpRequest.Builder request =
          HttpRequest.newBuilder(address)
              .header("Content-Type", "application/vnd.schemaregistry.v1+json")
              .POST(HttpRequest.BodyPublishers.ofString(question));
      if (!settings.registryAuth().isEmpty()) {
        byte[] both = settings.registryAuth().getBytes(StandardCharsets.UTF_8);
        request.header("Authorization", "Basic " + Base64.getEncoder().encodeToString(both));
      }
      HttpResponse<String> answer =
          HttpClient.newBuilder()
              .build()
              .sendAsync(request.build(), HttpResponse.BodyHandlers.ofString())
              .get(PATIENCE.toSeconds(), TimeUnit.SECONDS); // a request's own time-out ends with the headers
      if (answer.statusCode() != 200) {
        throw new Refused(
            "the registry has no id for the schema of " + topic + ": it answers " + answer.statusCode());
      }
      return json.readTree(answer.body()).required("id").intValue();
    } catch (TimeoutException late) {
      throw new Refused("the registry does not answer within " + PATIENCE.toSeconds() + " s");
    } catch (ExecutionException error) {
      throw new Refused("the registry does not answer: " + error.getCause());
    } catch (IOException | IllegalArgumentException error) {
      throw new Refused("the registry does not answer as one: " + error);
    } catch (InterruptedException error) {
      throw new Refused("interrupted");
    }
  }

  private static String resource(String name) {
    try (InputStream file = Schemas.class.getResourceAsStream(name)) {
      return new String(file.readAllBytes(), StandardCharsets.UTF_8);
    } catch (IOException impossible) { // it is in the jar
      throw new UncheckedIOException(impossible);
    }
  }
}
