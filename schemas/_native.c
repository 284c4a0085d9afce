/* The two inner loops of the fold in C: taking a transaction apart, and writing numbers.
 *
 * Optional: where this was not compiled, `schemas.usual` and `schemas.avro` do the same in Python, and property tests
 * hold one against the other. `usual` is not a second judge of what is legal: it knows one shape, and answers None to
 * anything else, which the strict reader then decides. No byte is read before its place was held against `end`.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>

#define VARINT_BYTES 10
#define MOST_NUMBERS 8

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

static PyObject *
usual(PyObject *module, PyObject *const *arguments, Py_ssize_t count)
{
    if (count != 2 || !PyBytes_Check(arguments[0]) || !PyBytes_Check(arguments[1])) {
        PyErr_SetString(PyExc_TypeError, "usual(header: bytes, value: bytes)");
        return NULL;
    }
    Py_ssize_t skipped = PyBytes_GET_SIZE(arguments[0]);
    const unsigned char *start = (const unsigned char *)PyBytes_AS_STRING(arguments[1]);
    Bytes bytes = {start, start + PyBytes_GET_SIZE(arguments[1])};
    unsigned char id[16];
    Py_ssize_t wallet_length, ignored;

    if (!has(&bytes, skipped) || memcmp(start, PyBytes_AS_STRING(arguments[0]), skipped) != 0)
        Py_RETURN_NONE;
    bytes.at += skipped;
    if (!uuid(&bytes, id))
        Py_RETURN_NONE;
    const unsigned char *wallet = name(&bytes, ' ', '~', &wallet_length);
    if (wallet == NULL || !has(&bytes, 1) || bytes.at[0] & ~2)
        Py_RETURN_NONE;
    long type = *bytes.at++ >> 1;
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
    return Py_BuildValue("y#y#lKs#y#", id, (Py_ssize_t)sizeof id, wallet, wallet_length, type,
                         (unsigned long long)(amount >> 1), currency, (Py_ssize_t)3, start + skipped,
                         bytes.end - start - skipped);
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
        uint64_t zigzag = (uint64_t)number << 1 ^ (uint64_t)(number < 0 ? -1 : 0);
        for (; zigzag >= 0x80; zigzag >>= 7)
            *at++ = (unsigned char)(zigzag | 0x80);
        *at++ = (unsigned char)zigzag;
    }
    Py_ssize_t before = PyBytes_GET_SIZE(arguments[0]);
    PyObject *joined = PyBytes_FromStringAndSize(NULL, before + (at - written));
    if (joined == NULL)
        return NULL;
    memcpy(PyBytes_AS_STRING(joined), PyBytes_AS_STRING(arguments[0]), before);
    memcpy(PyBytes_AS_STRING(joined) + before, written, at - written);
    return joined;
}

static PyMethodDef functions[] = {
    {"usual", (PyCFunction)(void (*)(void))usual, METH_FASTCALL,
     "What decides about the transaction after `header`, but for its digest, if it is canonical, valid and usual."},
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
    return PyModule_Create(&definition);
}
