package wallet;

/** Something is not as it should be; the message says what, for people. */
public final class Refused extends Exception {
  private static final long serialVersionUID = 1;

  public Refused(String message) {
    super(message);
  }
}
