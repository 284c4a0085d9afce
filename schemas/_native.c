/* The fold's inner loops in C: taking transactions apart, writing numbers, and posting where nothing is special.
 *
 * Optional: where this was not compiled the same is done in Python, and property tests hold both against a third fold
 * that shares nothing with either. Nothing here judges. `orders` knows one shape of a transaction and answers None to
 * anything else, which the strict reader then decides; `post` knows one case, the next entry of a wallet that has a balance
 * and gets no snapshot, and hands everything else to `streams.wallet.apply`. No byte is read before its place
 * was held against `end`, no field before its type was looked at.
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
/* Fields of the named tuples of streams.batch and schemas.records. */
#define SOURCE_FIELDS 5
#define ORDER_FIELDS 7
#define BALANCE_FIELDS 8
#define DERIVED_FIELDS 4

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

/* SHA-256 of some bytes by Python's own: `begun` makes a hash into which nothing was put yet (schemas.digest). */
static PyObject *
digest(PyObject *begun, PyObject *data)
{
    PyObject *found = NULL, *hash = PyObject_CallNoArgs(begun);
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
order_in(PyObject *header, PyObject *value, PyObject *key, PyTypeObject *type, PyObject *begun)
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
    if (key != NULL && (wallet_length != PyBytes_GET_SIZE(key) || memcmp(wallet, PyBytes_AS_STRING(key), wallet_length)))
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
        body == NULL ? NULL : digest(begun, body),
    };
    return named_tuple(type, fields, ORDER_FIELDS);
}

static PyObject *
usual(PyObject *module, PyObject *const *arguments, Py_ssize_t count)
{
    if (count != 4 || !PyBytes_Check(arguments[0]) || !PyBytes_Check(arguments[1]) || !is_named_tuple(arguments[2])) {
        PyErr_SetString(PyExc_TypeError, "usual(header: bytes, value: bytes, Order, begun)");
        return NULL;
    }
    return order_in(arguments[0], arguments[1], NULL, (PyTypeObject *)arguments[2], arguments[3]);
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
order_of(PyObject *header, PyObject *record, long long most_bytes, PyTypeObject *type, PyObject *begun)
{
    if (!PyTuple_Check(record) || PyTuple_GET_SIZE(record) != SOURCE_FIELDS) {
        PyErr_SetString(PyExc_TypeError, "a record is a Source");
        return NULL;
    }
    PyObject *key = PyTuple_GET_ITEM(record, 2), *value = PyTuple_GET_ITEM(record, 3);
    int headers = PyObject_IsTrue(PyTuple_GET_ITEM(record, 4));
    if (headers < 0)
        return NULL;
    if (headers || !PyBytes_CheckExact(key) || !PyBytes_CheckExact(value) ||
        PyBytes_GET_SIZE(key) + PyBytes_GET_SIZE(value) > most_bytes)
        Py_RETURN_NONE;
    return order_in(header, value, key, type, begun);
}

static PyObject *
orders(PyObject *module, PyObject *const *arguments, Py_ssize_t count)
{
    if (count != 5 || !PyBytes_Check(arguments[0]) || !PyList_Check(arguments[1]) || !PyLong_Check(arguments[2]) ||
        !is_named_tuple(arguments[3])) {
        PyErr_SetString(PyExc_TypeError, "orders(header: bytes, records: list, most_bytes: int, Order, begun)");
        return NULL;
    }
    PyObject *records = arguments[1];
    Py_ssize_t all = PyList_GET_SIZE(records);
    long long most_bytes = PyLong_AsLongLong(arguments[2]);
    if (most_bytes == -1 && PyErr_Occurred())
        return NULL;
    PyObject *found = PyList_New(all), *ids = PyList_New(all);
    for (Py_ssize_t n = 0; found != NULL && ids != NULL && n < all; n++) {
        PyObject *record = PyList_GetItem(records, n);
        PyObject *order = record == NULL ? NULL :
                          order_of(arguments[0], record, most_bytes, (PyTypeObject *)arguments[3], arguments[4]);
        PyObject *id = order == NULL || order == Py_None
                           ? Py_XNewRef(order)
                           : posted_id(PyTuple_GET_ITEM(order, 1), PyTuple_GET_ITEM(order, 0));
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

/* What stays the same for all records of a partition. */
typedef struct {
    PyObject *frame, *partition_object, *begun;
    PyTypeObject *order, *balance, *known, *derived;
    long long partition, snapshot_every;
    int overdraft_allowed;
} Plan;

/* What a stretch is decided by, and what it leads to; all borrowed but for `recorded_object`. */
typedef struct {
    PyObject *known, *balances;
    PyObject *entries, *new_balances, *new_ids, *recorded_object;
    long long recorded_ms;
} Fold;

static int
plan_of(PyObject *fields, Plan *plan)
{
    if (!PyTuple_Check(fields) || PyTuple_GET_SIZE(fields) != 9 || !PyBytes_Check(PyTuple_GET_ITEM(fields, 0)))
        return 0;
    for (int n = 4; n < 8; n++)
        if (!is_named_tuple(PyTuple_GET_ITEM(fields, n)))
            return 0;
    *plan = (Plan){
        .frame = PyTuple_GET_ITEM(fields, 0),
        .partition_object = PyTuple_GET_ITEM(fields, 1),
        .order = (PyTypeObject *)PyTuple_GET_ITEM(fields, 4),
        .balance = (PyTypeObject *)PyTuple_GET_ITEM(fields, 5),
        .known = (PyTypeObject *)PyTuple_GET_ITEM(fields, 6),
        .derived = (PyTypeObject *)PyTuple_GET_ITEM(fields, 7),
        .begun = PyTuple_GET_ITEM(fields, 8),
        .partition = PyLong_AsLongLong(PyTuple_GET_ITEM(fields, 1)),
        .snapshot_every = PyLong_AsLongLong(PyTuple_GET_ITEM(fields, 2)),
        .overdraft_allowed = PyTuple_GET_ITEM(fields, 3) == Py_True,
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
balance_of(const Fold *fold, PyObject *wallet)
{
    PyObject *found = PyDict_GetItemWithError(fold->new_balances, wallet);
    if (found == NULL && !PyErr_Occurred())
        found = PyDict_GetItemWithError(fold->balances, wallet);
    return Py_XNewRef(found);
}

/* 1. The entry's bytes and their hash. 2. All that is to be remembered. 1, or -1 for an error. */
static int
enter(const Plan *plan, Fold *fold, PyObject *order, PyObject *id, PyObject *before, PyObject *offset_object,
      const long long numbers[5])
{
    unsigned char written[5 * VARINT_BYTES], *at = written;
    for (int n = 0; n < 5; n++)
        at = put_long(at, numbers[n]);
    PyObject *wallet = PyTuple_GET_ITEM(order, 1), *body = PyTuple_GET_ITEM(order, 5);
    Py_ssize_t framed = PyBytes_GET_SIZE(plan->frame), carried = PyBytes_GET_SIZE(body), more = at - written;
    PyObject *chained = PyBytes_FromStringAndSize(NULL, HASH_BYTES + carried + more);
    PyObject *value = PyBytes_FromStringAndSize(NULL, framed + carried + more + HASH_BYTES);
    PyObject *link = NULL;
    if (chained != NULL && value != NULL) {
        char *to = PyBytes_AS_STRING(chained);
        memcpy(to, PyBytes_AS_STRING(PyTuple_GET_ITEM(before, 7)), HASH_BYTES);
        memcpy(to + HASH_BYTES, PyBytes_AS_STRING(body), carried);
        memcpy(to + HASH_BYTES + carried, written, more);
        link = digest(plan->begun, chained);
    }
    if (link == NULL) {
        Py_XDECREF(chained);
        Py_XDECREF(value);
        return -1;
    }
    char *to = PyBytes_AS_STRING(value);
    memcpy(to, PyBytes_AS_STRING(plan->frame), framed);
    memcpy(to + framed, PyBytes_AS_STRING(chained) + HASH_BYTES, carried + more);
    memcpy(to + framed + carried + more, PyBytes_AS_STRING(link), HASH_BYTES);
    Py_DECREF(chained);

    if (fold->recorded_object == NULL || fold->recorded_ms != numbers[2]) {
        Py_XSETREF(fold->recorded_object, PyLong_FromLongLong(numbers[2]));
        if (fold->recorded_object == NULL) {
            Py_DECREF(link);
            Py_DECREF(value);
            return -1;
        }
        fold->recorded_ms = numbers[2];
    }
    PyObject *recorded = fold->recorded_object;
    PyObject *after[BALANCE_FIELDS] = {
        Py_NewRef(PyTuple_GET_ITEM(before, 0)),
        Py_NewRef(PyTuple_GET_ITEM(before, 1)),
        PyLong_FromLongLong(numbers[1]),
        PyLong_FromLongLong(numbers[0]),
        Py_NewRef(recorded),
        Py_NewRef(plan->partition_object),
        Py_NewRef(offset_object),
        link,
    };
    PyObject *entry[DERIVED_FIELDS] = {Py_NewRef(wallet), value, Py_NewRef(recorded), Py_NewRef(Py_None)};
    PyObject *posted[] = {Py_NewRef(PyTuple_GET_ITEM(order, 6)), Py_NewRef(recorded)};
    PyObject *new_balance = named_tuple(plan->balance, after, BALANCE_FIELDS);
    PyObject *new_entry = named_tuple(plan->derived, entry, DERIVED_FIELDS);
    PyObject *new_id = named_tuple(plan->known, posted, 2);
    int done = new_balance == NULL || new_entry == NULL || new_id == NULL ||
                       PyDict_SetItem(fold->new_balances, wallet, new_balance) < 0 ||
                       PyDict_SetItem(fold->new_ids, id, new_id) < 0 || PyList_Append(fold->entries, new_entry) < 0
                   ? -1
                   : 1;
    Py_XDECREF(new_balance);
    Py_XDECREF(new_entry);
    Py_XDECREF(new_id);
    return done;
}

/* Post an order whose wallet stands at `before`: 1. Not decided here: 0. An error: -1. */
static int
post_one(const Plan *plan, Fold *fold, PyObject *record, PyObject *order, PyObject *id, PyObject *before)
{
    long long kind, amount, balance, sequence, recorded_before_ms, recorded_ms, offset, after;
    if (Py_TYPE(before) != plan->balance || PyTuple_GET_SIZE(before) != BALANCE_FIELDS ||
        !PyUnicode_CheckExact(PyTuple_GET_ITEM(before, 1)) || !PyBytes_CheckExact(PyTuple_GET_ITEM(before, 7)) ||
        PyBytes_GET_SIZE(PyTuple_GET_ITEM(before, 7)) != HASH_BYTES ||
        !number_in(PyTuple_GET_ITEM(before, 2), &balance) || !number_in(PyTuple_GET_ITEM(before, 3), &sequence) ||
        !number_in(PyTuple_GET_ITEM(before, 4), &recorded_before_ms) ||
        !number_in(PyTuple_GET_ITEM(order, 2), &kind) || !number_in(PyTuple_GET_ITEM(order, 3), &amount) ||
        !number_in(PyTuple_GET_ITEM(record, 0), &offset) || !number_in(PyTuple_GET_ITEM(record, 1), &recorded_ms))
        return 0;
    /* An id that was seen before is a duplicate, a conflict, or forgotten. */
    int seen = PyDict_Contains(fold->new_ids, id);
    if (seen == 0)
        seen = PyDict_Contains(fold->known, id);
    if (seen != 0)
        return seen < 0 ? -1 : 0;
    if (PyUnicode_Compare(PyTuple_GET_ITEM(before, 1), PyTuple_GET_ITEM(order, 4)) != 0)
        return PyErr_Occurred() ? -1 : 0;
    if (kind == 0 ? __builtin_add_overflow(balance, amount, &after) : __builtin_sub_overflow(balance, amount, &after))
        return 0;
    if (after < 0 && kind != 0 && !plan->overdraft_allowed)
        return 0;
    if (kind < 0 || kind > 1 || amount < 1 || sequence < 1 || sequence == INT64_MAX)
        return 0;
    if (recorded_ms < fold->recorded_ms)
        recorded_ms = fold->recorded_ms;
    /* A new day and every N-th entry have a snapshot. */
    if (recorded_before_ms < 0 || recorded_ms < 0 || recorded_ms / DAY_MS != recorded_before_ms / DAY_MS ||
        (sequence + 1) % plan->snapshot_every == 0)
        return 0;
    const long long numbers[5] = {sequence + 1, after, recorded_ms, plan->partition, offset};
    return enter(plan, fold, order, id, before, PyTuple_GET_ITEM(record, 0), numbers);
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
    Fold fold = {.known = arguments[5], .balances = arguments[6], .entries = arguments[7],
                 .new_balances = arguments[8], .new_ids = arguments[9], .recorded_ms = PyLong_AsLongLong(arguments[10])};
    Py_ssize_t at = PyLong_AsSsize_t(arguments[4]);
    int posted = PyErr_Occurred() ? -1 : 1;
    while (posted == 1 && at >= 0 && at < PyList_GET_SIZE(arguments[1]) && at < PyList_GET_SIZE(arguments[2]) &&
           at < PyList_GET_SIZE(arguments[3])) {
        PyObject *record = PyList_GET_ITEM(arguments[1], at), *order = PyList_GET_ITEM(arguments[2], at);
        PyObject *id = PyList_GET_ITEM(arguments[3], at);
        posted = 0;
        if (Py_TYPE(order) == plan.order && PyTuple_GET_SIZE(order) == ORDER_FIELDS && PyTuple_Check(record) &&
            PyTuple_GET_SIZE(record) == SOURCE_FIELDS && PyBytes_CheckExact(id) &&
            PyBytes_CheckExact(PyTuple_GET_ITEM(order, 1)) && PyUnicode_CheckExact(PyTuple_GET_ITEM(order, 4)) &&
            PyBytes_CheckExact(PyTuple_GET_ITEM(order, 5))) {
            PyObject *before = balance_of(&fold, PyTuple_GET_ITEM(order, 1));
            if (before != NULL) {
                posted = post_one(&plan, &fold, record, order, id, before);
                Py_DECREF(before);
            } else if (PyErr_Occurred())
                posted = -1;
        }
        at += posted == 1;
    }
    Py_XDECREF(fold.recorded_object);
    return posted < 0 ? NULL : Py_BuildValue("nL", at, fold.recorded_ms);
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
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "_native",
    .m_doc = "The inner loops of the fold; see schemas/_native.c.",
    .m_methods = functions,
};

PyMODINIT_FUNC
PyInit__native(void)
{
    name_update = PyUnicode_InternFromString("update");
    name_digest = PyUnicode_InternFromString("digest");
    return name_update == NULL || name_digest == NULL ? NULL : PyModule_Create(&definition);
}
