/* The inner loops of worker and sink in C: taking transactions apart, writing numbers, posting where nothing is special,
 * balances to and from bytes, and entries as rows of a COPY.
 *
 * Optional: where this was not compiled the same is done in Python, and property tests hold both against a third fold
 * that shares nothing with either. Nothing here rejects. `orders` knows one shape of a transaction and answers None to
 * anything else, which the strict reader then judges; `post` knows one case, the next entry of a wallet that has a
 * balance and gets no snapshot, and leaves everything else to `streams.wallet.apply`. No byte is read before its place
 * was held against `end`, no field before its type was looked at, and what is borrowed from a list or a dict is held
 * wherever Python code may run. After an error what was posted so far is only partly entered: nobody may use it.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>

#define VARINT_BYTES 10
#define MOST_NUMBERS 8
#define UUID_BYTES 16
#define HASH_BYTES 32
#define DAY_MS 86400000LL
/* What schemas/native/__init__.py asks for: another number wherever a function here comes to mean something else. */
#define VERSION 3

/* The fields of the named tuples of streams.batch, streams.wallet and schemas.records, in their order. */
enum { SOURCE_OFFSET, SOURCE_TIMESTAMP_MS, SOURCE_KEY, SOURCE_VALUE, SOURCE_HEADERS, SOURCE_FIELDS };
enum { ORDER_ID, ORDER_WALLET, ORDER_KIND, ORDER_AMOUNT, ORDER_CURRENCY, ORDER_BODY, ORDER_CONTENT, ORDER_FIELDS };
enum {
    BALANCE_WALLET_ID,
    BALANCE_CURRENCY,
    BALANCE_BALANCE,
    BALANCE_SEQUENCE,
    BALANCE_RECORDED_MS,
    BALANCE_PARTITION,
    BALANCE_OFFSET,
    BALANCE_HASH,
    BALANCE_FIELDS
};
enum { BALANCE_NUMBERS = BALANCE_HASH - BALANCE_BALANCE, DERIVED_FIELDS = 4, KNOWN_FIELDS = 2 };
/* What `post` is told of a partition (streams.posting). */
enum {
    PLAN_FRAME,
    PLAN_PARTITION,
    PLAN_SNAPSHOT_EVERY,
    PLAN_OVERDRAFT_ALLOWED,
    PLAN_ORDER,
    PLAN_BALANCE,
    PLAN_KNOWN,
    PLAN_DERIVED,
    PLAN_NEW_SHA256,
    PLAN_FIELDS
};

typedef struct {
    const unsigned char *at, *end;
} Bytes;

static int
has(const Bytes *bytes, Py_ssize_t count)
{
    return bytes->end - bytes->at >= count;
}

/* A length of 1 to 63 in one byte (twice it: zigzag), then so many characters from `least` to `most`; or NULL. */
static const unsigned char *
name(Bytes *bytes, unsigned char least, unsigned char most, Py_ssize_t *length)
{
    if (!has(bytes, 1) || bytes->at[0] & 0x81 || bytes->at[0] == 0)
        return NULL;
    *length = bytes->at[0] >> 1;
    const unsigned char *start = bytes->at + 1;
    if (!has(bytes, 1 + *length))
        return NULL;
    for (Py_ssize_t n = 0; n < *length; n++)
        if (start[n] < least || start[n] > most)
            return NULL;
    bytes->at = start + *length;
    return start;
}

/* A varint of `least` to `most` (at most 8) bytes, the shortest for its number, which is not 0; 0 for anything else. */
static uint64_t
varint(Bytes *bytes, int least, int most)
{
    uint64_t number = 0;
    for (int n = 0; n < most && has(bytes, n + 1); n++) {
        number |= (uint64_t)(bytes->at[n] & 0x7f) << 7 * n;
        if (bytes->at[n] < 0x80) {
            if (bytes->at[n] == 0 || n + 1 < least)
                return 0;
            bytes->at += n + 1;
            return number;
        }
    }
    return 0;
}

static int
nibble(unsigned char digit)
{
    if (digit >= '0' && digit <= '9')
        return digit - '0';
    if (digit >= 'a' && digit <= 'f')
        return digit - 'a' + 10;
    return -1;
}

/* A UUID as a canonical string: its length, then 32 lower-case digits in groups of 8, 4, 4, 4 and 12. */
static int
uuid(Bytes *bytes, unsigned char *into)
{
    if (!has(bytes, 37) || bytes->at[0] != 2 * 36)
        return 0;
    const unsigned char *text = bytes->at + 1;
    for (int n = 0; n < 16; n++) {
        if (n == 4 || n == 6 || n == 8 || n == 10)
            if (*text++ != '-')
                return 0;
        int high = nibble(*text++), low = nibble(*text++);
        if (high < 0 || low < 0)
            return 0;
        into[n] = (unsigned char)(high << 4 | low);
    }
    bytes->at = text;
    return 1;
}

/* Metadata in one block, its keys in order and none of them twice; or none. */
static int
metadata(Bytes *bytes)
{
    if (!has(bytes, 1))
        return 0;
    if (bytes->at[0] != 0) {
        if (bytes->at[0] & 0x81)
            return 0;
        const unsigned char *before = NULL;
        Py_ssize_t before_length = 0;
        for (int left = *bytes->at++ >> 1; left > 0; left--) {
            Py_ssize_t length, ignored;
            const unsigned char *key = name(bytes, 0x01, 0x7f, &length);
            if (key == NULL || name(bytes, 0x01, 0x7f, &ignored) == NULL)
                return 0;
            if (before != NULL) {
                Py_ssize_t both = length < before_length ? length : before_length;
                int order = memcmp(before, key, both);
                if (order > 0 || (order == 0 && before_length >= length))
                    return 0;
            }
            before = key;
            before_length = length;
        }
        if (!has(bytes, 1) || bytes->at[0] != 0)
            return 0;
    }
    bytes->at++;
    return 1;
}

static PyObject *name_update, *name_digest;

/* SHA-256 of some bytes by Python's own: `new_sha256` makes a hash that nothing was put into yet (schemas.digest). */
static PyObject *
digest(PyObject *new_sha256, PyObject *data)
{
    PyObject *found = NULL, *hash = PyObject_CallNoArgs(new_sha256);
    if (hash == NULL)
        return NULL;
    PyObject *nothing = PyObject_CallMethodOneArg(hash, name_update, data);
    if (nothing != NULL) {
        Py_DECREF(nothing);
        found = PyObject_CallMethodNoArgs(hash, name_digest);
    }
    Py_DECREF(hash);
    if (found != NULL && (!PyBytes_CheckExact(found) || PyBytes_GET_SIZE(found) != HASH_BYTES)) {
        Py_CLEAR(found);
        PyErr_SetString(PyExc_TypeError, "a digest is not 32 bytes");
    }
    return found;
}

/* A named tuple, which takes its fields over; NULL, with the error of its field, where one of them is NULL. */
static PyObject *
named_tuple(PyTypeObject *type, PyObject *const *fields, Py_ssize_t count)
{
    int whole = 1;
    for (Py_ssize_t n = 0; n < count; n++)
        whole = whole && fields[n] != NULL;
    PyObject *made = whole ? type->tp_alloc(type, count) : NULL;
#if PY_VERSION_HEX >= 0x030E0000
    if (made != NULL) /* a tuple keeps its hash from 3.14 on: -1 is none yet, the 0 of new memory would be one */
        ((PyTupleObject *)made)->ob_hash = -1;
#endif
    for (Py_ssize_t n = 0; n < count; n++)
        if (made == NULL)
            Py_XDECREF(fields[n]);
        else
            PyTuple_SET_ITEM(made, n, fields[n]);
    return made;
}

static int
is_named_tuple(PyObject *type)
{
    return PyType_Check(type) && PyType_IsSubtype((PyTypeObject *)type, &PyTuple_Type) &&
           ((PyTypeObject *)type)->tp_basicsize == PyTuple_Type.tp_basicsize;
}

/* The transaction after `header` as an Order, or None. `key` is what its wallet id must be, NULL for anything. */
static PyObject *
read_order(PyObject *header, PyObject *value, PyObject *key, PyTypeObject *type, PyObject *new_sha256)
{
    Py_ssize_t skipped = PyBytes_GET_SIZE(header);
    const unsigned char *start = (const unsigned char *)PyBytes_AS_STRING(value);
    Bytes bytes = {start, start + PyBytes_GET_SIZE(value)};
    unsigned char id[UUID_BYTES];
    Py_ssize_t wallet_length, ignored;

    if (!has(&bytes, skipped) || memcmp(start, PyBytes_AS_STRING(header), skipped) != 0)
        Py_RETURN_NONE;
    bytes.at += skipped;
    if (!uuid(&bytes, id))
        Py_RETURN_NONE;
    const unsigned char *wallet = name(&bytes, ' ', '~', &wallet_length);
    if (wallet == NULL || !has(&bytes, 1) || bytes.at[0] & ~2)
        Py_RETURN_NONE;
    if (key != NULL &&
        (wallet_length != PyBytes_GET_SIZE(key) || memcmp(wallet, PyBytes_AS_STRING(key), wallet_length) != 0))
        Py_RETURN_NONE;
    long kind = *bytes.at++ >> 1;
    uint64_t amount = varint(&bytes, 1, 8);
    if (amount == 0 || amount & 1) /* zigzag: below zero */
        Py_RETURN_NONE;
    if (!has(&bytes, 4) || bytes.at[0] != 2 * 3)
        Py_RETURN_NONE;
    const unsigned char *currency = bytes.at + 1;
    for (int n = 0; n < 3; n++)
        if (currency[n] < 'A' || currency[n] > 'Z')
            Py_RETURN_NONE;
    bytes.at += 4;
    if (varint(&bytes, 8, 8) == 0 || !has(&bytes, 1) || bytes.at[0] & ~2)
        Py_RETURN_NONE;
    if (*bytes.at++ != 0 && name(&bytes, ' ', '~', &ignored) == NULL)
        Py_RETURN_NONE;
    if (!metadata(&bytes) || bytes.at != bytes.end)
        Py_RETURN_NONE;
    PyObject *body = PyBytes_FromStringAndSize((const char *)start + skipped, bytes.end - start - skipped);
    PyObject *fields[ORDER_FIELDS] = {
        PyBytes_FromStringAndSize((const char *)id, UUID_BYTES),
        key != NULL ? Py_NewRef(key) : PyBytes_FromStringAndSize((const char *)wallet, wallet_length),
        PyLong_FromLong(kind),
        PyLong_FromUnsignedLongLong(amount >> 1),
        PyUnicode_FromKindAndData(PyUnicode_1BYTE_KIND, currency, 3),
        body,
        NULL,
    };
    if (!PyErr_Occurred())
        fields[ORDER_CONTENT] = digest(new_sha256, body);
    return named_tuple(type, fields, ORDER_FIELDS);
}

static PyObject *
usual(PyObject *module, PyObject *const *arguments, Py_ssize_t count)
{
    if (count != 4 || !PyBytes_Check(arguments[0]) || !PyBytes_Check(arguments[1]) || !is_named_tuple(arguments[2])) {
        PyErr_SetString(PyExc_TypeError, "usual(header: bytes, value: bytes, Order, new_sha256)");
        return NULL;
    }
    return read_order(arguments[0], arguments[1], NULL, (PyTypeObject *)arguments[2], arguments[3]);
}

/* The key of the id index: streams.batch.posted_id. */
static PyObject *
posted_id(PyObject *wallet, PyObject *id)
{
    Py_ssize_t length = PyBytes_GET_SIZE(wallet);
    PyObject *joined = PyBytes_FromStringAndSize(NULL, length + 1 + UUID_BYTES);
    if (joined == NULL)
        return NULL;
    char *to = PyBytes_AS_STRING(joined);
    memcpy(to, PyBytes_AS_STRING(wallet), length);
    to[length] = 0;
    memcpy(to + length + 1, PyBytes_AS_STRING(id), UUID_BYTES);
    return joined;
}

/* An Order where the record is a usual one, else None; NULL for an error. */
static PyObject *
order_of_record(PyObject *header, PyObject *record, long long most_bytes, PyTypeObject *type, PyObject *new_sha256)
{
    if (!PyTuple_Check(record) || PyTuple_GET_SIZE(record) != SOURCE_FIELDS) {
        PyErr_SetString(PyExc_TypeError, "a record is a Source");
        return NULL;
    }
    PyObject *key = PyTuple_GET_ITEM(record, SOURCE_KEY), *value = PyTuple_GET_ITEM(record, SOURCE_VALUE);
    int headers = PyObject_IsTrue(PyTuple_GET_ITEM(record, SOURCE_HEADERS));
    if (headers < 0)
        return NULL;
    if (headers || !PyBytes_CheckExact(key) || !PyBytes_CheckExact(value) ||
        PyBytes_GET_SIZE(key) + PyBytes_GET_SIZE(value) > most_bytes)
        Py_RETURN_NONE;
    return read_order(header, value, key, type, new_sha256);
}

static PyObject *
orders(PyObject *module, PyObject *const *arguments, Py_ssize_t count)
{
    if (count != 5 || !PyBytes_Check(arguments[0]) || !PyList_Check(arguments[1]) || !PyLong_Check(arguments[2]) ||
        !is_named_tuple(arguments[3])) {
        PyErr_SetString(PyExc_TypeError, "orders(header: bytes, records: list, most_bytes: int, Order, new_sha256)");
        return NULL;
    }
    PyObject *records = arguments[1];
    Py_ssize_t all = PyList_GET_SIZE(records);
    long long most_bytes = PyLong_AsLongLong(arguments[2]);
    if (most_bytes == -1 && PyErr_Occurred())
        return NULL;
    PyObject *found = PyList_New(all), *ids = PyList_New(all);
    for (Py_ssize_t n = 0; found != NULL && ids != NULL && n < all; n++) {
        PyObject *record = Py_XNewRef(PyList_GetItem(records, n));
        PyObject *order = record == NULL ? NULL :
                          order_of_record(arguments[0], record, most_bytes, (PyTypeObject *)arguments[3], arguments[4]);
        PyObject *id = order == NULL || order == Py_None
                           ? Py_XNewRef(order)
                           : posted_id(PyTuple_GET_ITEM(order, ORDER_WALLET), PyTuple_GET_ITEM(order, ORDER_ID));
        Py_XDECREF(record);
        if (id == NULL) {
            Py_XDECREF(order);
            Py_CLEAR(found);
            break;
        }
        PyList_SET_ITEM(found, n, order);
        PyList_SET_ITEM(ids, n, id);
    }
    PyObject *both = found == NULL || ids == NULL ? NULL : PyTuple_Pack(2, found, ids);
    Py_XDECREF(found);
    Py_XDECREF(ids);
    return both;
}

static unsigned char *
put_long(unsigned char *at, long long number)
{
    uint64_t zigzag = (uint64_t)number << 1 ^ (uint64_t)(number < 0 ? -1 : 0);
    for (; zigzag >= 0x80; zigzag >>= 7)
        *at++ = (unsigned char)(zigzag | 0x80);
    *at++ = (unsigned char)zigzag;
    return at;
}

static PyObject *
longs(PyObject *module, PyObject *const *arguments, Py_ssize_t count)
{
    unsigned char written[MOST_NUMBERS * VARINT_BYTES], *at = written;
    if (count < 1 || count > 1 + MOST_NUMBERS || !PyBytes_Check(arguments[0])) {
        PyErr_Format(PyExc_TypeError, "longs(first: bytes, and up to %d numbers)", MOST_NUMBERS);
        return NULL;
    }
    for (Py_ssize_t n = 1; n < count; n++) {
        long long number = PyLong_AsLongLong(arguments[n]);
        if (number == -1 && PyErr_Occurred())
            return NULL;
        at = put_long(at, number);
    }
    Py_ssize_t before = PyBytes_GET_SIZE(arguments[0]);
    PyObject *joined = PyBytes_FromStringAndSize(NULL, before + (at - written));
    if (joined == NULL)
        return NULL;
    memcpy(PyBytes_AS_STRING(joined), PyBytes_AS_STRING(arguments[0]), before);
    memcpy(PyBytes_AS_STRING(joined) + before, written, at - written);
    return joined;
}

/* A str as UTF-8, which it keeps itself; NULL for an error. */
static const char *
utf8_of(PyObject *text, Py_ssize_t *length)
{
    if (PyUnicode_Check(text))
        return PyUnicode_AsUTF8AndSize(text, length);
    PyErr_SetString(PyExc_TypeError, "a text is a str");
    return NULL;
}

/* A Balance as schemas.native.balances.encode_balance writes it; NULL for an error. */
static PyObject *
balance_body(PyObject *balance)
{
    if (!PyTuple_Check(balance) || PyTuple_GET_SIZE(balance) != BALANCE_FIELDS) {
        PyErr_SetString(PyExc_TypeError, "a balance is a Balance");
        return NULL;
    }
    Py_ssize_t wallet_length, currency_length;
    const char *wallet = utf8_of(PyTuple_GET_ITEM(balance, BALANCE_WALLET_ID), &wallet_length);
    const char *currency =
        wallet == NULL ? NULL : utf8_of(PyTuple_GET_ITEM(balance, BALANCE_CURRENCY), &currency_length);
    if (currency == NULL)
        return NULL;
    unsigned char written[BALANCE_NUMBERS * VARINT_BYTES], lengths[2 * VARINT_BYTES], *at = written;
    for (int n = BALANCE_BALANCE; n < BALANCE_HASH; n++) {
        long long number = PyLong_AsLongLong(PyTuple_GET_ITEM(balance, n));
        if (number == -1 && PyErr_Occurred())
            return NULL;
        at = put_long(at, number);
    }
    PyObject *hash = PyTuple_GET_ITEM(balance, BALANCE_HASH);
    if (!PyBytes_Check(hash)) {
        PyErr_SetString(PyExc_TypeError, "a hash is bytes");
        return NULL;
    }
    unsigned char *second = put_long(lengths, wallet_length), *third = put_long(second, currency_length);
    struct {
        const void *from;
        Py_ssize_t length;
    } pieces[] = {
        {lengths, second - lengths},
        {wallet, wallet_length},
        {second, third - second},
        {currency, currency_length},
        {written, at - written},
        {PyBytes_AS_STRING(hash), PyBytes_GET_SIZE(hash)},
    };
    Py_ssize_t whole = 0;
    for (int n = 0; n < 6; n++)
        whole += pieces[n].length;
    PyObject *body = PyBytes_FromStringAndSize(NULL, whole);
    char *to = body == NULL ? NULL : PyBytes_AS_STRING(body);
    for (int n = 0; body != NULL && n < 6; to += pieces[n++].length)
        memcpy(to, pieces[n].from, pieces[n].length);
    return body;
}

static PyObject *
balance_bodies(PyObject *module, PyObject *balances)
{
    if (!PyDict_CheckExact(balances)) {
        PyErr_SetString(PyExc_TypeError, "balance_bodies(balances: dict)");
        return NULL;
    }
    PyObject *bodies = PyDict_New(), *wallet, *balance;
    Py_ssize_t place = 0;
    while (bodies != NULL && PyDict_Next(balances, &place, &wallet, &balance)) {
        PyObject *body = balance_body(balance);
        if (body == NULL || PyDict_SetItem(bodies, wallet, body) < 0)
            Py_CLEAR(bodies);
        Py_XDECREF(body);
    }
    return bodies;
}

/* A long in the fewest bytes; 0 for anything else. */
static int
long_in(Bytes *bytes, long long *number)
{
    uint64_t zigzag = 0;
    for (int n = 0; n < VARINT_BYTES && has(bytes, n + 1); n++) {
        uint64_t bits = bytes->at[n] & 0x7f;
        if (n == VARINT_BYTES - 1 && bits > 1)
            return 0;
        zigzag |= bits << 7 * n;
        if (bytes->at[n] < 0x80) {
            if (n > 0 && bits == 0)
                return 0;
            bytes->at += n + 1;
            *number = (long long)(zigzag >> 1 ^ (zigzag & 1 ? UINT64_MAX : 0));
            return 1;
        }
    }
    return 0;
}

/* A string and its length; NULL for anything else, with an error set where it is no UTF-8. */
static PyObject *
text_in(Bytes *bytes)
{
    long long length;
    if (!long_in(bytes, &length) || length < 0 || length > bytes->end - bytes->at)
        return NULL;
    bytes->at += length;
    return PyUnicode_DecodeUTF8((const char *)bytes->at - length, (Py_ssize_t)length, NULL);
}

static PyObject *
balance(PyObject *module, PyObject *const *arguments, Py_ssize_t count)
{
    if (count != 2 || !PyBytes_Check(arguments[0]) || !is_named_tuple(arguments[1])) {
        PyErr_SetString(PyExc_TypeError, "balance(body: bytes, Balance)");
        return NULL;
    }
    const unsigned char *start = (const unsigned char *)PyBytes_AS_STRING(arguments[0]);
    Bytes bytes = {start, start + PyBytes_GET_SIZE(arguments[0])};
    PyObject *wallet = text_in(&bytes), *currency = wallet == NULL ? NULL : text_in(&bytes);
    long long numbers[BALANCE_NUMBERS];
    int usual = currency != NULL;
    for (int n = 0; n < BALANCE_NUMBERS; n++)
        usual = usual && long_in(&bytes, &numbers[n]);
    if (!usual || bytes.end - bytes.at != HASH_BYTES) {
        Py_XDECREF(wallet);
        Py_XDECREF(currency);
        if (PyErr_Occurred() && !PyErr_ExceptionMatches(PyExc_UnicodeDecodeError))
            return NULL;
        PyErr_Clear();
        Py_RETURN_NONE;
    }
    PyObject *fields[BALANCE_FIELDS] = {wallet, currency};
    for (int n = 0; n < BALANCE_NUMBERS; n++)
        fields[BALANCE_BALANCE + n] = PyLong_FromLongLong(numbers[n]);
    fields[BALANCE_HASH] = PyBytes_FromStringAndSize((const char *)bytes.at, HASH_BYTES);
    return named_tuple((PyTypeObject *)arguments[1], fields, BALANCE_FIELDS);
}

/* What stays the same for all records of a partition. */
typedef struct {
    PyObject *frame, *partition_object, *new_sha256;
    PyTypeObject *order, *balance, *known, *derived;
    long long partition, snapshot_every;
    int overdraft_allowed;
} Plan;

/* What a stretch of records is decided by, and what it leads to; all borrowed but for `recorded_object`. */
typedef struct {
    PyObject *known, *balances;
    PyObject *entries, *new_balances, *new_ids, *recorded_object;
    long long recorded_ms;
} Stretch;

/* What a LedgerEntry adds to its transaction, in its order, but for the hash. */
typedef struct {
    long long sequence, balance, recorded_ms, partition, offset;
} Added;

static int
plan_of(PyObject *fields, Plan *plan)
{
    if (!PyTuple_Check(fields) || PyTuple_GET_SIZE(fields) != PLAN_FIELDS ||
        !PyBytes_Check(PyTuple_GET_ITEM(fields, PLAN_FRAME)))
        return 0;
    for (int n = PLAN_ORDER; n <= PLAN_DERIVED; n++)
        if (!is_named_tuple(PyTuple_GET_ITEM(fields, n)))
            return 0;
    *plan = (Plan){
        .frame = PyTuple_GET_ITEM(fields, PLAN_FRAME),
        .partition_object = PyTuple_GET_ITEM(fields, PLAN_PARTITION),
        .order = (PyTypeObject *)PyTuple_GET_ITEM(fields, PLAN_ORDER),
        .balance = (PyTypeObject *)PyTuple_GET_ITEM(fields, PLAN_BALANCE),
        .known = (PyTypeObject *)PyTuple_GET_ITEM(fields, PLAN_KNOWN),
        .derived = (PyTypeObject *)PyTuple_GET_ITEM(fields, PLAN_DERIVED),
        .new_sha256 = PyTuple_GET_ITEM(fields, PLAN_NEW_SHA256),
        .partition = PyLong_AsLongLong(PyTuple_GET_ITEM(fields, PLAN_PARTITION)),
        .snapshot_every = PyLong_AsLongLong(PyTuple_GET_ITEM(fields, PLAN_SNAPSHOT_EVERY)),
        .overdraft_allowed = PyTuple_GET_ITEM(fields, PLAN_OVERDRAFT_ALLOWED) == Py_True,
    };
    return !PyErr_Occurred() && plan->snapshot_every > 0;
}

/* A number of 64 bits; 0 where it is none. */
static int
number_in(PyObject *object, long long *number)
{
    int overflow = 0;
    if (!PyLong_CheckExact(object))
        return 0;
    *number = PyLong_AsLongLongAndOverflow(object, &overflow);
    return !overflow;
}

/* The wallet's newest balance, a new reference; NULL where it has none yet, or for an error. */
static PyObject *
balance_of(const Stretch *stretch, PyObject *wallet)
{
    PyObject *found = PyDict_GetItemWithError(stretch->new_balances, wallet);
    if (found == NULL && !PyErr_Occurred())
        found = PyDict_GetItemWithError(stretch->balances, wallet);
    return Py_XNewRef(found);
}

/* The value of an entry with its frame, and in `hash` its hash, chained to `previous`; NULL for an error. */
static PyObject *
entry_value(const Plan *plan, PyObject *previous, PyObject *body, const Added *added, PyObject **hash)
{
    unsigned char written[5 * VARINT_BYTES], *at = written;
    at = put_long(at, added->sequence);
    at = put_long(at, added->balance);
    at = put_long(at, added->recorded_ms);
    at = put_long(at, added->partition);
    at = put_long(at, added->offset);
    Py_ssize_t framed = PyBytes_GET_SIZE(plan->frame), carried = PyBytes_GET_SIZE(body), more = at - written;
    PyObject *chained = PyBytes_FromStringAndSize(NULL, HASH_BYTES + carried + more);
    if (chained == NULL)
        return NULL;
    char *to = PyBytes_AS_STRING(chained);
    memcpy(to, PyBytes_AS_STRING(previous), HASH_BYTES);
    memcpy(to + HASH_BYTES, PyBytes_AS_STRING(body), carried);
    memcpy(to + HASH_BYTES + carried, written, more);
    *hash = digest(plan->new_sha256, chained);
    PyObject *value = *hash == NULL ? NULL : PyBytes_FromStringAndSize(NULL, framed + carried + more + HASH_BYTES);
    if (value == NULL)
        Py_CLEAR(*hash);
    else {
        to = PyBytes_AS_STRING(value);
        memcpy(to, PyBytes_AS_STRING(plan->frame), framed);
        memcpy(to + framed, PyBytes_AS_STRING(chained) + HASH_BYTES, carried + more);
        memcpy(to + framed + carried + more, PyBytes_AS_STRING(*hash), HASH_BYTES);
    }
    Py_DECREF(chained);
    return value;
}

/* recorded_at as an object, borrowed, the same one as long as it stays the same; NULL for an error. */
static PyObject *
recorded_at(Stretch *stretch, long long recorded_ms)
{
    if (stretch->recorded_object == NULL || stretch->recorded_ms != recorded_ms) {
        Py_XSETREF(stretch->recorded_object, PyLong_FromLongLong(recorded_ms));
        stretch->recorded_ms = recorded_ms;
    }
    return stretch->recorded_object;
}

/* Write the entry of an accepted order, and remember its id and the wallet's new balance. 1, or -1 for an error. */
static int
enter(const Plan *plan, Stretch *stretch, PyObject *order, PyObject *id, PyObject *before, PyObject *offset_object,
      const Added *added)
{
    PyObject *hash = NULL, *wallet = PyTuple_GET_ITEM(order, ORDER_WALLET);
    PyObject *recorded = recorded_at(stretch, added->recorded_ms);
    PyObject *value = recorded == NULL ? NULL
                                       : entry_value(plan, PyTuple_GET_ITEM(before, BALANCE_HASH),
                                                     PyTuple_GET_ITEM(order, ORDER_BODY), added, &hash);
    if (value == NULL)
        return -1;
    PyObject *after[BALANCE_FIELDS] = {
        [BALANCE_WALLET_ID] = Py_NewRef(PyTuple_GET_ITEM(before, BALANCE_WALLET_ID)),
        [BALANCE_CURRENCY] = Py_NewRef(PyTuple_GET_ITEM(before, BALANCE_CURRENCY)),
        [BALANCE_BALANCE] = PyLong_FromLongLong(added->balance),
        [BALANCE_SEQUENCE] = PyLong_FromLongLong(added->sequence),
        [BALANCE_RECORDED_MS] = Py_NewRef(recorded),
        [BALANCE_PARTITION] = Py_NewRef(plan->partition_object),
        [BALANCE_OFFSET] = Py_NewRef(offset_object),
        [BALANCE_HASH] = hash,
    };
    PyObject *entry[DERIVED_FIELDS] = {Py_NewRef(wallet), value, Py_NewRef(recorded), Py_NewRef(Py_None)};
    PyObject *posted[KNOWN_FIELDS] = {Py_NewRef(PyTuple_GET_ITEM(order, ORDER_CONTENT)), Py_NewRef(recorded)};
    PyObject *new_balance = named_tuple(plan->balance, after, BALANCE_FIELDS);
    PyObject *new_entry = named_tuple(plan->derived, entry, DERIVED_FIELDS);
    PyObject *new_id = named_tuple(plan->known, posted, KNOWN_FIELDS);
    int done = new_balance == NULL || new_entry == NULL || new_id == NULL ||
                       PyDict_SetItem(stretch->new_balances, wallet, new_balance) < 0 ||
                       PyDict_SetItem(stretch->new_ids, id, new_id) < 0 ||
                       PyList_Append(stretch->entries, new_entry) < 0
                   ? -1
                   : 1;
    Py_XDECREF(new_balance);
    Py_XDECREF(new_entry);
    Py_XDECREF(new_id);
    return done;
}

/* Whether a balance is what `post_usual` takes it for. */
static int
is_balance(const Plan *plan, PyObject *before)
{
    return Py_TYPE(before) == plan->balance && PyTuple_GET_SIZE(before) == BALANCE_FIELDS &&
           PyUnicode_CheckExact(PyTuple_GET_ITEM(before, BALANCE_CURRENCY)) &&
           PyBytes_CheckExact(PyTuple_GET_ITEM(before, BALANCE_HASH)) &&
           PyBytes_GET_SIZE(PyTuple_GET_ITEM(before, BALANCE_HASH)) == HASH_BYTES;
}

/* Post an order whose wallet stands at `before`: 1. Something is special about it: 0. An error: -1.
 *
 * These are the rules of `streams.wallet` for a transaction that is accepted: who changes them there changes them here.
 */
static int
post_usual(const Plan *plan, Stretch *stretch, PyObject *record, PyObject *order, PyObject *id, PyObject *before)
{
    long long kind, amount, balance, sequence, recorded_before_ms, recorded_ms, offset, after;
    if (!is_balance(plan, before) || !number_in(PyTuple_GET_ITEM(before, BALANCE_BALANCE), &balance) ||
        !number_in(PyTuple_GET_ITEM(before, BALANCE_SEQUENCE), &sequence) ||
        !number_in(PyTuple_GET_ITEM(before, BALANCE_RECORDED_MS), &recorded_before_ms) ||
        !number_in(PyTuple_GET_ITEM(order, ORDER_KIND), &kind) ||
        !number_in(PyTuple_GET_ITEM(order, ORDER_AMOUNT), &amount) ||
        !number_in(PyTuple_GET_ITEM(record, SOURCE_OFFSET), &offset) ||
        !number_in(PyTuple_GET_ITEM(record, SOURCE_TIMESTAMP_MS), &recorded_ms))
        return 0;
    if (kind < 0 || kind > 1 || amount < 1 || sequence < 1 || sequence == INT64_MAX)
        return 0;
    /* An id that was seen before is a duplicate, a conflict, or forgotten. */
    int seen = PyDict_Contains(stretch->new_ids, id);
    if (seen == 0)
        seen = PyDict_Contains(stretch->known, id);
    if (seen != 0)
        return seen < 0 ? -1 : 0;
    if (PyUnicode_Compare(PyTuple_GET_ITEM(before, BALANCE_CURRENCY), PyTuple_GET_ITEM(order, ORDER_CURRENCY)) != 0)
        return PyErr_Occurred() ? -1 : 0;
    if (kind == 0 ? __builtin_add_overflow(balance, amount, &after) : __builtin_sub_overflow(balance, amount, &after))
        return 0;
    if (after < 0 && kind != 0 && !plan->overdraft_allowed)
        return 0;
    if (recorded_ms < stretch->recorded_ms)
        recorded_ms = stretch->recorded_ms;
    /* A new day and every N-th entry have a snapshot. */
    if (recorded_before_ms < 0 || recorded_ms < 0 || recorded_ms / DAY_MS != recorded_before_ms / DAY_MS ||
        (sequence + 1) % plan->snapshot_every == 0)
        return 0;
    const Added added = {sequence + 1, after, recorded_ms, plan->partition, offset};
    return enter(plan, stretch, order, id, before, PyTuple_GET_ITEM(record, SOURCE_OFFSET), &added);
}

/* The same for whatever stands at a place of the three lists. */
static int
post_one(const Plan *plan, Stretch *stretch, PyObject *record, PyObject *order, PyObject *id)
{
    if (Py_TYPE(order) != plan->order || PyTuple_GET_SIZE(order) != ORDER_FIELDS || !PyTuple_Check(record) ||
        PyTuple_GET_SIZE(record) != SOURCE_FIELDS || !PyBytes_CheckExact(id) ||
        !PyBytes_CheckExact(PyTuple_GET_ITEM(order, ORDER_WALLET)) ||
        !PyUnicode_CheckExact(PyTuple_GET_ITEM(order, ORDER_CURRENCY)) ||
        !PyBytes_CheckExact(PyTuple_GET_ITEM(order, ORDER_BODY)))
        return 0;
    PyObject *before = balance_of(stretch, PyTuple_GET_ITEM(order, ORDER_WALLET));
    if (before == NULL)
        return PyErr_Occurred() ? -1 : 0;
    int posted = post_usual(plan, stretch, record, order, id, before);
    Py_DECREF(before);
    return posted;
}

static PyObject *
post(PyObject *module, PyObject *const *arguments, Py_ssize_t count)
{
    Plan plan;
    if (count != 11 || !plan_of(arguments[0], &plan) || !PyList_Check(arguments[1]) || !PyList_Check(arguments[2]) ||
        !PyList_Check(arguments[3]) || !PyDict_Check(arguments[5]) || !PyDict_Check(arguments[6]) ||
        !PyList_Check(arguments[7]) || !PyDict_Check(arguments[8]) || !PyDict_Check(arguments[9])) {
        PyErr_SetString(PyExc_TypeError, "post(plan, records, orders, ids, at, known, balances, entries, new_balances, "
                                         "new_ids, recorded_ms)");
        return NULL;
    }
    PyObject *records = arguments[1], *all_orders = arguments[2], *ids = arguments[3];
    Stretch stretch = {.known = arguments[5],
                       .balances = arguments[6],
                       .entries = arguments[7],
                       .new_balances = arguments[8],
                       .new_ids = arguments[9],
                       .recorded_ms = PyLong_AsLongLong(arguments[10])};
    Py_ssize_t at = PyLong_AsSsize_t(arguments[4]);
    int posted = PyErr_Occurred() ? -1 : 1;
    while (posted == 1 && at >= 0 && at < PyList_GET_SIZE(records) && at < PyList_GET_SIZE(all_orders) &&
           at < PyList_GET_SIZE(ids)) {
        PyObject *record = Py_NewRef(PyList_GET_ITEM(records, at));
        PyObject *order = Py_NewRef(PyList_GET_ITEM(all_orders, at));
        PyObject *id = Py_NewRef(PyList_GET_ITEM(ids, at));
        posted = post_one(&plan, &stretch, record, order, id);
        Py_DECREF(record);
        Py_DECREF(order);
        Py_DECREF(id);
        at += posted == 1;
    }
    Py_XDECREF(stretch.recorded_object);
    return posted < 0 ? NULL : Py_BuildValue("nL", at, stretch.recorded_ms);
}

/* From here to `entry_rows`: a LedgerEntry as a row of binary COPY, as sinks.rows makes it. */
#define FRAME_BYTES 5
#define POSTGRES_EPOCH_US 946684800000000LL
/* Years 1 to 9999. */
#define LEAST_MS -62135596800000LL
#define MOST_MS 253402300799999LL

/* Where the fields of an entry are in its bytes. */
typedef struct {
    const unsigned char *body, *wallet, *currency, *group, *metadata;
    unsigned char id[UUID_BYTES];
    Py_ssize_t wallet_length, group_length, metadata_length, body_length;
    int kind, pairs;
    long long amount, occurred_us, sequence, balance, recorded_ms, partition, offset;
} Entry;

/* How many bytes of JSON a text takes that needs no escapes, and where it begins; NULL for any other. */
static const unsigned char *
plain(Bytes *bytes, Py_ssize_t *length)
{
    const unsigned char *text = name(bytes, ' ', '~', length);
    if (text != NULL && (memchr(text, '"', *length) != NULL || memchr(text, '\\', *length) != NULL))
        return NULL;
    return text;
}

/* Metadata in one block, of names and texts that need no escapes; `metadata_length` is that of its JSON. */
static int
json_in(Bytes *bytes, Entry *entry)
{
    if (!has(bytes, 1) || bytes->at[0] & 0x81)
        return 0;
    entry->pairs = *bytes->at++ >> 1;
    entry->metadata = bytes->at;
    entry->metadata_length = 2;
    for (int n = 0; n < entry->pairs; n++) {
        Py_ssize_t key, value;
        if (plain(bytes, &key) == NULL || plain(bytes, &value) == NULL)
            return 0;
        entry->metadata_length += key + value + 6 + (n > 0 ? 2 : 0);
    }
    if (entry->pairs > 0 && (!has(bytes, 1) || *bytes->at++ != 0))
        return 0;
    return 1;
}

/* Find the fields of an entry that is usual; 0 for anything else. */
static int
read_entry(PyObject *value, Entry *entry)
{
    if (!PyBytes_CheckExact(value))
        return 0;
    const unsigned char *start = (const unsigned char *)PyBytes_AS_STRING(value);
    Bytes bytes = {start, start + PyBytes_GET_SIZE(value)};
    if (!has(&bytes, FRAME_BYTES) || start[0] != 0)
        return 0;
    entry->body = bytes.at += FRAME_BYTES;
    if (!uuid(&bytes, entry->id))
        return 0;
    entry->wallet = name(&bytes, ' ', '~', &entry->wallet_length);
    if (entry->wallet == NULL || !has(&bytes, 1) || bytes.at[0] & ~2)
        return 0;
    entry->kind = *bytes.at++;
    if (!long_in(&bytes, &entry->amount) || !has(&bytes, 4) || bytes.at[0] != 2 * 3)
        return 0;
    entry->currency = bytes.at + 1;
    for (int n = 0; n < 3; n++)
        if (entry->currency[n] < 'A' || entry->currency[n] > 'Z')
            return 0;
    bytes.at += 4;
    if (!long_in(&bytes, &entry->occurred_us) || entry->occurred_us < LEAST_MS * 1000 ||
        entry->occurred_us >= (MOST_MS + 1) * 1000 || !has(&bytes, 1) || bytes.at[0] & ~2)
        return 0;
    entry->group = NULL;
    if (*bytes.at++ != 0 && (entry->group = name(&bytes, ' ', '~', &entry->group_length)) == NULL)
        return 0;
    if (!json_in(&bytes, entry) || !long_in(&bytes, &entry->sequence) || !long_in(&bytes, &entry->balance) ||
        !long_in(&bytes, &entry->recorded_ms) || !long_in(&bytes, &entry->partition) ||
        !long_in(&bytes, &entry->offset))
        return 0;
    entry->body_length = bytes.at - entry->body;
    return bytes.end - bytes.at == HASH_BYTES && entry->recorded_ms >= LEAST_MS && entry->recorded_ms <= MOST_MS &&
           entry->partition >= INT32_MIN && entry->partition <= INT32_MAX;
}

/* A number in so many bytes, the highest first. */
static unsigned char *
put_big(unsigned char *at, long long number, int size)
{
    for (int n = size; n > 0; number >>= 8)
        at[--n] = (unsigned char)number;
    return at + size;
}

/* A field: its length, then its bytes. */
static unsigned char *
put_field(unsigned char *at, const void *from, Py_ssize_t length)
{
    at = put_big(at, length, 4);
    memcpy(at, from, length);
    return at + length;
}

static unsigned char *
put_number(unsigned char *at, long long number, int size)
{
    return put_big(put_big(at, size, 4), number, size);
}

static unsigned char *
put_quoted(unsigned char *at, Bytes *texts)
{
    Py_ssize_t length = *texts->at++ >> 1;
    *at++ = '"';
    memcpy(at, texts->at, length);
    texts->at += length;
    at[length] = '"';
    return at + length + 1;
}

/* A field of jsonb: a 1, then the metadata as Python's json writes it. */
static unsigned char *
put_json(unsigned char *at, const Entry *entry)
{
    Bytes texts = {entry->metadata, NULL};
    at = put_big(at, entry->metadata_length + 1, 4);
    *at++ = 1;
    *at++ = '{';
    for (int n = 0; n < entry->pairs; n++) {
        if (n > 0) {
            *at++ = ',';
            *at++ = ' ';
        }
        at = put_quoted(at, &texts);
        *at++ = ':';
        *at++ = ' ';
        at = put_quoted(at, &texts);
    }
    *at++ = '}';
    return at;
}

/* The row of `transactions`. */
static PyObject *
transaction_row(const Entry *entry)
{
    const char *label = entry->kind == 0 ? "CREDIT" : "DEBIT";
    Py_ssize_t label_length = entry->kind == 0 ? 6 : 5, group = entry->group == NULL ? 0 : entry->group_length;
    /* 15 lengths, 6 numbers of eight bytes and one of four, and jsonb's 1. */
    Py_ssize_t whole = 2 + 15 * 4 + 6 * 8 + 4 + 1 + entry->wallet_length + UUID_BYTES + label_length + 3 + group +
                       entry->metadata_length + HASH_BYTES + entry->body_length;
    PyObject *row = PyBytes_FromStringAndSize(NULL, whole);
    if (row == NULL)
        return NULL;
    unsigned char *start = (unsigned char *)PyBytes_AS_STRING(row), *at = put_big(start, 15, 2);
    at = put_field(at, entry->wallet, entry->wallet_length);
    at = put_number(at, entry->sequence, 8);
    at = put_field(at, entry->id, UUID_BYTES);
    at = put_field(at, label, label_length);
    at = put_number(at, entry->amount, 8);
    at = put_field(at, entry->currency, 3);
    at = put_number(at, entry->occurred_us - POSTGRES_EPOCH_US, 8);
    at = entry->group == NULL ? put_big(at, -1, 4) : put_field(at, entry->group, entry->group_length);
    at = put_json(at, entry);
    at = put_number(at, entry->balance, 8);
    at = put_number(at, entry->recorded_ms * 1000 - POSTGRES_EPOCH_US, 8);
    at = put_number(at, entry->partition, 4);
    at = put_number(at, entry->offset, 8);
    at = put_field(at, entry->body + entry->body_length, HASH_BYTES);
    at = put_field(at, entry->body, entry->body_length);
    if (at != start + whole) {
        Py_DECREF(row);
        PyErr_SetString(PyExc_SystemError, "a row is not as long as its fields");
        return NULL;
    }
    return row;
}

/* The row of `wallets` that a wallet's first entry opens, or None. */
static PyObject *
wallet_row(const Entry *entry)
{
    if (entry->sequence != 1)
        Py_RETURN_NONE;
    PyObject *row = PyBytes_FromStringAndSize(NULL, 2 + 3 * 4 + entry->wallet_length + 3 + 8);
    if (row == NULL)
        return NULL;
    unsigned char *at = put_big((unsigned char *)PyBytes_AS_STRING(row), 3, 2);
    at = put_field(at, entry->wallet, entry->wallet_length);
    at = put_field(at, entry->currency, 3);
    put_number(at, entry->recorded_ms * 1000 - POSTGRES_EPOCH_US, 8);
    return row;
}

static PyObject *
entry_row(PyObject *value, PyTypeObject *type)
{
    Entry entry;
    if (!read_entry(value, &entry))
        Py_RETURN_NONE;
    long long day = entry.recorded_ms / DAY_MS - (entry.recorded_ms % DAY_MS < 0);
    PyObject *fields[] = {transaction_row(&entry), PyLong_FromLongLong(day), wallet_row(&entry)};
    return named_tuple(type, fields, 3);
}

static PyObject *
entry_rows(PyObject *module, PyObject *const *arguments, Py_ssize_t count)
{
    if (count != 2 || !PyList_Check(arguments[0]) || !is_named_tuple(arguments[1])) {
        PyErr_SetString(PyExc_TypeError, "entry_rows(values: list, EntryRow)");
        return NULL;
    }
    Py_ssize_t all = PyList_GET_SIZE(arguments[0]);
    PyObject *found = PyList_New(all);
    for (Py_ssize_t n = 0; found != NULL && n < all; n++) {
        PyObject *value = Py_XNewRef(PyList_GetItem(arguments[0], n));
        PyObject *row = value == NULL ? NULL : entry_row(value, (PyTypeObject *)arguments[1]);
        Py_XDECREF(value);
        if (row == NULL)
            Py_CLEAR(found);
        else
            PyList_SET_ITEM(found, n, row);
    }
    return found;
}

static PyMethodDef functions[] = {
    {"usual", (PyCFunction)(void (*)(void))usual, METH_FASTCALL,
     "The transaction after `header` as an Order, or None where it is not canonical, valid and usual."},
    {"orders", (PyCFunction)(void (*)(void))orders, METH_FASTCALL,
     "The same for records, None also where one has headers, another key, or too many bytes; and their keys in the id "
     "index."},
    {"post", (PyCFunction)(void (*)(void))post, METH_FASTCALL,
     "Post orders from `at` on, up to one that is for `apply`; returns where that is, and the newest recorded_at."},
    {"longs", (PyCFunction)(void (*)(void))longs, METH_FASTCALL, "`first`, then the shortest encoding of each number."},
    {"balance", (PyCFunction)(void (*)(void))balance, METH_FASTCALL,
     "A Balance's body as a Balance, or None where it is not one that `balance_bodies` writes."},
    {"entry_rows", (PyCFunction)(void (*)(void))entry_rows, METH_FASTCALL,
     "An EntryRow of each LedgerEntry's value, or None where it is not canonical, valid and usual."},
    {"balance_bodies", balance_bodies, METH_O, "The bodies of the Balances in a dict, under the same keys."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "_native",
    .m_doc = "The inner loops of worker and sink; see schemas/native/_native.c.",
    .m_size = -1, /* the two names below are the process's */
    .m_methods = functions,
};

PyMODINIT_FUNC
PyInit__native(void)
{
    name_update = PyUnicode_InternFromString("update");
    name_digest = PyUnicode_InternFromString("digest");
    PyObject *module = name_update == NULL || name_digest == NULL ? NULL : PyModule_Create(&definition);
    if (module != NULL && PyModule_AddIntConstant(module, "VERSION", VERSION) < 0)
        Py_CLEAR(module);
    return module;
}
