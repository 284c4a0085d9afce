package wallet;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;

/** Two commands, {@code produce FILE} and {@code read}. What is wrong is told in one line on stderr; exit code 1. */
public final class Main {
  private Main() {}

  public static void main(String[] words) {
    try {
      System.out.println(run(Settings.ofEnvironment(), words));
    } catch (Refused | IOException | RuntimeException failure) {
      String reason = failure instanceof Refused ? failure.getMessage() : failure.toString();
      byte[] line = (reason.strip().replaceAll("\\s+", " ") + "\n").getBytes(StandardCharsets.UTF_8);
      System.err.write(line, 0, line.length);
      System.exit(1);
    }
  }

  private static String run(Settings settings, String[] words) throws Refused, IOException {
    if (words.length == 2 && words[0].equals("produce")) {
      return Producing.send(settings, Path.of(words[1])) + " transactions sent, each confirmed";
    }
    if (words.length == 1 && words[0].equals("read")) {
      Chain chain = Reading.follow(settings);
      return chain.entries() + " entries of " + chain.wallets() + " wallets, every hash follows";
    }
    throw new Refused("usage: wallet-client produce FILE | wallet-client read");
  }
}
