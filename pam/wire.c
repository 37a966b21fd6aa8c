/* SPDX-License-Identifier: Apache-2.0 */

/* Protobuf by hand, for the handful of messages of shim.proto and the two of
 * ttrpc. Reading copies nothing, allocates nothing and believes nothing: every
 * length is compared with what is left, a field of an unexpected type is refused,
 * and a field that is not known is skipped. The tests hold it beside the Go
 * implementation of the same .proto file. */

#include <stdlib.h>
#include <string.h>

#include "latchkey.h"

enum { VARINT = 0, FIXED64 = 1, LENGTH = 2, FIXED32 = 5 };

static bool reserve(struct lk_buffer *b, size_t more) {
        unsigned char *bigger;
        size_t room;

        if (b->failed || more > LK_MAX_ANSWER || b->size + more > LK_MAX_ANSWER) {
                b->failed = true;
                return false;
        }
        if (b->size + more <= b->room)
                return true;
        room = (b->size + more) * 2;
        bigger = malloc(room);
        if (!bigger) {
                b->failed = true;
                return false;
        }
        if (b->at) {
                memcpy(bigger, b->at, b->size);
                explicit_bzero(b->at, b->room);
                free(b->at);
        }
        b->at = bigger;
        b->room = room;
        return true;
}

static void put_varint(struct lk_buffer *b, uint64_t value) {
        if (!reserve(b, 10))
                return;
        while (value >= 0x80) {
                b->at[b->size++] = (unsigned char) (value | 0x80);
                value >>= 7;
        }
        b->at[b->size++] = (unsigned char) value;
}

void lk_put_number(struct lk_buffer *b, unsigned field, uint64_t value) {
        put_varint(b, (uint64_t) field << 3 | VARINT);
        put_varint(b, value);
}

void lk_put_bytes(struct lk_buffer *b, unsigned field, const void *at, size_t size) {
        put_varint(b, (uint64_t) field << 3 | LENGTH);
        put_varint(b, size);
        if (size == 0 || !reserve(b, size))
                return;
        memcpy(b->at + b->size, at, size);
        b->size += size;
}

void lk_buffer_free(struct lk_buffer *b) {
        if (b->at) {
                explicit_bzero(b->at, b->room);
                free(b->at);
        }
        *b = (struct lk_buffer) {0};
}

static bool read_varint(struct lk_bytes *from, uint64_t *ret) {
        uint64_t value = 0;

        for (unsigned shift = 0; shift < 64; shift += 7) {
                unsigned char c;

                if (from->size == 0)
                        return false;
                c = *from->at;
                from->at++;
                from->size--;
                if (shift == 63 && c > 1)
                        return false;
                value |= (uint64_t) (c & 0x7f) << shift;
                if (c < 0x80) {
                        *ret = value;
                        return true;
                }
        }
        return false;
}

static bool take(struct lk_bytes *from, uint64_t size, struct lk_bytes *ret) {
        if (size > from->size)
                return false;
        *ret = (struct lk_bytes) {from->at, (size_t) size};
        from->at += size;
        from->size -= (size_t) size;
        return true;
}

struct field {
        uint64_t number;
        unsigned type;
        uint64_t value; /* VARINT */
        struct lk_bytes bytes;
};

/* The next field. Groups, which proto3 does not have, are refused. */
static bool read_field(struct lk_bytes *from, struct field *ret) {
        uint64_t key, size;

        if (!read_varint(from, &key))
                return false;
        *ret = (struct field) {.number = key >> 3, .type = (unsigned) (key & 7)};
        if (ret->number == 0 || ret->number > 0x1fffffff)
                return false;
        switch (ret->type) {
        case VARINT:
                return read_varint(from, &ret->value);
        case FIXED64:
                return take(from, 8, &ret->bytes);
        case LENGTH:
                return read_varint(from, &size) && take(from, size, &ret->bytes);
        case FIXED32:
                return take(from, 4, &ret->bytes);
        default:
                return false;
        }
}

/* A text has no NUL in it, for what comes after would not be shown. */
static bool is_text(struct lk_bytes b, size_t most) {
        return b.size <= most && (b.size == 0 || !memchr(b.at, '\0', b.size));
}

static bool read_line(struct lk_line *ret, struct lk_bytes from) {
        struct field f;

        *ret = (struct lk_line) {0};
        while (from.size > 0) {
                if (!read_field(&from, &f))
                        return false;
                if (f.number == 1) {
                        if (f.type != VARINT || f.value < LK_INFO || f.value > LK_ASK_NEW)
                                return false;
                        ret->kind = (enum lk_kind) f.value;
                } else if (f.number == 2) {
                        if (f.type != LENGTH || !is_text(f.bytes, LK_MAX_TEXT))
                                return false;
                        ret->text = f.bytes;
                }
        }
        return ret->kind != 0;
}

static bool read_done(struct lk_turn *ret, struct lk_bytes from) {
        struct field f;

        ret->done = true;
        while (from.size > 0) {
                if (!read_field(&from, &f))
                        return false;
                if (f.number > 5)
                        continue;
                if (f.type != (f.number == 2 || f.number == 5 ? LENGTH : VARINT) || (f.type == VARINT && f.value > UINT32_MAX))
                        return false;
                switch (f.number) {
                case 1:
                        /* One that a later daemon may know is a failure here. */
                        ret->outcome = f.value <= LK_INTERNAL ? (enum lk_outcome) f.value : LK_INTERNAL;
                        break;
                case 2:
                        if (!is_text(f.bytes, LK_MAX_PUBLISHED))
                                return false;
                        ret->name = f.bytes;
                        break;
                case 3:
                        ret->uid = (uint32_t) f.value;
                        break;
                case 4:
                        ret->gid = (uint32_t) f.value;
                        break;
                case 5:
                        if (f.bytes.size > LK_MAX_CCACHE)
                                return false;
                        ret->ccache = f.bytes;
                        break;
                default:
                        break;
                }
        }
        return true;
}

bool lk_read_turn(struct lk_turn *ret, struct lk_bytes from) {
        struct field f;

        *ret = (struct lk_turn) {0};
        while (from.size > 0) {
                if (!read_field(&from, &f))
                        return false;
                if (f.number > 2)
                        continue;
                if (f.type != LENGTH)
                        return false;
                if (f.number == 1) {
                        if (ret->count == LK_MAX_LINES || !read_line(&ret->lines[ret->count], f.bytes))
                                return false;
                        ret->count++;
                } else if (ret->done || !read_done(ret, f.bytes))
                        return false;
        }
        return true;
}

/* google.rpc.Status is told by its code alone: the message is for logs that the
 * daemon has anyway. */
static bool read_status(int32_t *ret, struct lk_bytes from) {
        struct field f;

        while (from.size > 0) {
                if (!read_field(&from, &f))
                        return false;
                if (f.number != 1)
                        continue;
                if (f.type != VARINT || f.value > INT32_MAX)
                        return false;
                *ret = (int32_t) f.value;
        }
        return true;
}

bool lk_read_answer(struct lk_answer *ret, struct lk_bytes from) {
        struct field f;

        *ret = (struct lk_answer) {0};
        while (from.size > 0) {
                if (!read_field(&from, &f))
                        return false;
                if (f.number > 2)
                        continue;
                if (f.type != LENGTH)
                        return false;
                if (f.number == 2)
                        ret->payload = f.bytes;
                else if (!read_status(&ret->code, f.bytes))
                        return false;
        }
        return true;
}
