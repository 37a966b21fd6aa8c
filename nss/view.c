/* SPDX-License-Identifier: Apache-2.0 */

/* Whether a file is a snapshot that may be asked, and which ids it may tell. */

#include <string.h>

#include "latchkey.h"

/* A part of the file, as offsets that fit because LK_MAX_SIZE does. */
static bool part(const struct lk_section *s, size_t size, uint32_t *ret_at, uint32_t *ret_end) {
        if (s->offset < LK_HEADER_SIZE || s->offset > size || s->length > size - s->offset || s->offset % 8 != 0 || s->length % 8 != 0)
                return false;
        *ret_at = (uint32_t) s->offset;
        *ret_end = (uint32_t) (s->offset + s->length);
        return true;
}

static bool side(const struct lk_table *t, size_t size, struct lk_side *ret) {
        uint32_t names_end, ids_end;

        if (!part(&t->names, size, &ret->names_at, &names_end) || !part(&t->ids, size, &ret->ids_at, &ids_end) ||
            !part(&t->rows, size, &ret->rows_at, &ret->rows_end))
                return false;
        ret->names_slots = (names_end - ret->names_at) / (uint32_t) sizeof(struct lk_slot);
        ret->names_homes = t->name_slots;
        ret->ids_slots = (ids_end - ret->ids_at) / (uint32_t) sizeof(struct lk_slot);
        ret->ids_homes = t->id_slots;
        return ret->names_homes > 0 && ret->names_homes <= ret->names_slots && ret->ids_homes > 0 && ret->ids_homes <= ret->ids_slots;
}

/* Takes the reserved ids out of a range, the rest of which may be none, one or
 * more ranges. */
static bool allow(struct lk_view *v, struct lk_range range) {
        static const struct lk_range reserved[] = {LK_RESERVED};

        for (size_t i = 0; i < sizeof(reserved) / sizeof(reserved[0]); i++) {
                const struct lk_range *no = &reserved[i];

                if (range.high < no->low || no->high < range.low)
                        continue;
                if (range.low < no->low) {
                        if (v->allowed_count == LK_MAX_ALLOWED)
                                return false;
                        v->allowed[v->allowed_count++] = (struct lk_range){range.low, no->low - 1};
                }
                if (range.high <= no->high)
                        return true;
                range.low = no->high + 1;
        }
        if (v->allowed_count == LK_MAX_ALLOWED)
                return false;
        v->allowed[v->allowed_count++] = range;
        return true;
}

enum lk_outcome lk_view_init(struct lk_view *ret_view, const unsigned char *base, size_t size) {
        union {
                struct lk_header h;
                uint64_t words[sizeof(struct lk_header) / 8];
        } u;
        struct lk_view v = {.base = base};
        uint32_t live;

        if (size < LK_HEADER_SIZE || size > LK_MAX_SIZE)
                return LK_BROKEN;
        memcpy(&u.h, base, sizeof(u.h));
        if (memcmp(u.h.magic, LK_MAGIC, sizeof(u.h.magic)) != 0 || u.h.byte_order != LK_BYTE_ORDER || u.h.version != LK_VERSION || u.h.file_size != size)
                return LK_BROKEN;
        live = u.h.live;
        u.h.live = 0;
        if (lk_hash(u.h.seed, u.words, offsetof(struct lk_header, sum)) != u.h.sum)
                return LK_BROKEN;
        if (live != LK_LIVE)
                return LK_ABSENT;
        if ((u.h.flags & LK_FLAG_COMPLETE) == 0)
                return LK_BROKEN;

        v.size = (uint32_t) size;
        memcpy(v.seed, u.h.seed, sizeof(v.seed));
        if (!side(&u.h.users, size, &v.users) || !side(&u.h.groups, size, &v.groups) || !part(&u.h.aliases, size, &v.aliases_at, &v.aliases_end))
                return LK_BROKEN;
        if (u.h.range_count == 0 || u.h.range_count > LK_MAX_RANGES)
                return LK_BROKEN;
        for (uint32_t i = 0; i < u.h.range_count; i++)
                if (u.h.ranges[i].low > u.h.ranges[i].high || !allow(&v, u.h.ranges[i]))
                        return LK_BROKEN;
        *ret_view = v;
        return v.allowed_count > 0 ? LK_FOUND : LK_BROKEN;
}

bool lk_allowed(const struct lk_view *v, uint32_t id) {
        for (uint32_t i = 0; i < v->allowed_count; i++)
                if (id - v->allowed[i].low <= v->allowed[i].high - v->allowed[i].low)
                        return true;
        return false;
}
