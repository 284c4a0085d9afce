package wallet;

import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.Arrays;
import java.util.HashMap;
import java.util.Map;

/** Knows the newest entry of each wallet, and judges the next. */
public final class Chain {
  private record Link(long sequence, long balance, byte[] hash) {}

  /** What a wallet's first entry follows. */
  private static final Link NOTHING = new Link(0, 0, new byte[Entry.HASH_BYTES]);

  private final Map<String, Link> newest = new HashMap<>();
  private final MessageDigest sha256 = sha256();
  private long entries;

  public long entries() {
    return entries;
  }

  public int wallets() {
    return newest.size();
  }

  /** Takes the next entry of the wallet that the record's key names; refuses one that does not follow. */
  public void follow(byte[] key, Entry entry) throws Refused {
    Transaction transaction = entry.transaction();
    Link before = newest.getOrDefault(transaction.wallet(), NOTHING);
    if (!Arrays.equals(key, transaction.key())) {
      throw new Refused("the key is not the wallet's id");
    }
    if (entry.sequence() != before.sequence + 1) {
      throw new Refused("entry " + entry.sequence() + " comes after entry " + before.sequence);
    }
    if (!isSum(entry.balance(), before.balance, transaction.signed())) {
      throw new Refused(
          "the balance is " + entry.balance() + " after " + before.balance + " and " + transaction.signed());
    }
    sha256.update(before.hash);
    if (!Arrays.equals(sha256.digest(entry.body()), entry.hash())) {
      throw new Refused("the hash does not follow");
    }
    newest.put(transaction.wallet(), new Link(entry.sequence(), entry.balance(), entry.hash()));
    entries++;
  }

  private static boolean isSum(long sum, long one, long other) {
    try {
      return sum == Math.addExact(one, other);
    } catch (ArithmeticException beyond64Bits) {
      return false;
    }
  }

  private static MessageDigest sha256() {
    try {
      return MessageDigest.getInstance("SHA-256");
    } catch (NoSuchAlgorithmException impossible) { // every Java has it
      throw new IllegalStateException(impossible);
    }
  }
}
