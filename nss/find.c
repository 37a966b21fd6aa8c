/* SPDX-License-Identifier: Apache-2.0 */

/* Rows by name and by id. Every offset that comes from the file is compared
 * with the bounds of its section before anything is read there; where the file
 * contradicts itself the outcome is LK_BROKEN. */

#include <string.h>

#include "latchkey.h"

static inline uint32_t align_to(uint32_t n, uint32_t to) {
        return (n + to - 1) / to * to;
}

/* The home slot of a hash; internal/snapshot has the same. */
static inline uint32_t home(uint32_t spot, uint32_t homes) {
        return (uint32_t) ((uint64_t) spot * homes >> 32);
}

static inline uint32_t mix(const struct lk_view *v, uint32_t id) {
        uint32_t x = id ^ (uint32_t) v->seed[0];

        x ^= x >> 16;
        x *= UINT32_C(0x85ebca6b);
        x ^= x >> 13;
        x *= UINT32_C(0xc2b2ae35);
        x ^= x >> 16;
        return x;
}

/* Whether size bytes at an offset lie between two others. */
static inline bool within(uint64_t at, uint64_t size, uint32_t from, uint32_t to) {
        return at >= from && at <= to && size <= to - at;
}

static bool user_at(const struct lk_view *v, uint64_t at, struct lk_user *ret) {
        const unsigned char *p;
        struct lk_user_row *row = &ret->row;
        uint32_t list;

        if (!within(at, sizeof(*row), v->users.rows_at, v->users.rows_end))
                return false;
        p = v->base + at;
        row->uid = lk_load32(p + offsetof(struct lk_user_row, uid));
        row->gid = lk_load32(p + offsetof(struct lk_user_row, gid));
        row->size = lk_load32(p + offsetof(struct lk_user_row, size));
        row->flags = lk_load32(p + offsetof(struct lk_user_row, flags));
        row->gid_count = lk_load32(p + offsetof(struct lk_user_row, gid_count));
        row->name_size = lk_load16(p + offsetof(struct lk_user_row, name_size));
        row->gecos_size = lk_load16(p + offsetof(struct lk_user_row, gecos_size));
        row->dir_size = lk_load16(p + offsetof(struct lk_user_row, dir_size));
        row->shell_size = lk_load16(p + offsetof(struct lk_user_row, shell_size));
        if (row->gid_count == 0 || row->gid_count > LK_MAX_GROUPS)
                return false;
        ret->strings = p + sizeof(*row);
        ret->strings_size = (uint32_t) row->name_size + row->gecos_size + row->dir_size + row->shell_size + (uint32_t) sizeof("*") + 4;
        list = align_to((uint32_t) sizeof(*row) + ret->strings_size, 4);
        ret->gids = p + list;
        return row->size == align_to(list + 4 * row->gid_count, 8) / 8 &&
                within(at, 8 * (uint64_t) row->size, v->users.rows_at, v->users.rows_end);
}

static bool group_at(const struct lk_view *v, uint64_t at, struct lk_group *ret) {
        const unsigned char *p;
        struct lk_group_row *row = &ret->row;
        uint32_t list;

        if (!within(at, sizeof(*row), v->groups.rows_at, v->groups.rows_end))
                return false;
        p = v->base + at;
        row->gid = lk_load32(p + offsetof(struct lk_group_row, gid));
        row->size = lk_load32(p + offsetof(struct lk_group_row, size));
        row->flags = lk_load32(p + offsetof(struct lk_group_row, flags));
        row->member_count = lk_load32(p + offsetof(struct lk_group_row, member_count));
        row->strings_size = lk_load32(p + offsetof(struct lk_group_row, strings_size));
        row->name_size = lk_load32(p + offsetof(struct lk_group_row, name_size));
        if (row->name_size > LK_MAX_NAME || row->strings_size > LK_MAX_SIZE || row->member_count > LK_MAX_SIZE / 4 ||
            row->strings_size < row->name_size + 1 + sizeof("*"))
                return false;
        ret->strings = p + sizeof(*row);
        list = align_to((uint32_t) sizeof(*row) + row->strings_size, 4);
        ret->places = p + list;
        return row->size == align_to(list + 4 * row->member_count, 8) / 8 &&
                within(at, 8 * (uint64_t) row->size, v->groups.rows_at, v->groups.rows_end);
}

/* Whether an entry stands for the key; *ret_row is then the row it finds. The
 * entry leads to an alias, or to a row whose name is the key. */
static bool entry_is(const struct lk_view *v, const struct lk_side *side, uint64_t at, const struct lk_key *key, uint64_t *ret_row) {
        const unsigned char *have;
        uint32_t size;

        if (within(at, sizeof(struct lk_alias), v->aliases_at, v->aliases_end)) {
                *ret_row = 8 * (uint64_t) lk_load32(v->base + at + offsetof(struct lk_alias, ref));
                size = lk_load32(v->base + at + offsetof(struct lk_alias, key_size));
                have = v->base + at + sizeof(struct lk_alias);
                return size == key->size && within(at, sizeof(struct lk_alias) + size, v->aliases_at, v->aliases_end) &&
                        memcmp(have, key->bytes, size) == 0;
        }
        *ret_row = at;
        if (side == &v->users) {
                struct lk_user u;

                return user_at(v, at, &u) && u.row.name_size == key->size && memcmp(u.strings, key->bytes, key->size) == 0;
        } else {
                struct lk_group g;

                return group_at(v, at, &g) && g.row.name_size == key->size && memcmp(g.strings, key->bytes, key->size) == 0;
        }
}

static enum lk_outcome row_by_name(const struct lk_view *v, const struct lk_side *side, const struct lk_key *key, uint64_t *ret_row) {
        uint64_t hash;

        if (key->size == 0)
                return LK_ABSENT;
        hash = lk_hash(v->seed, key->words, key->size);
        for (uint32_t i = home((uint32_t) hash, side->names_homes); i < side->names_slots; i++) {
                const unsigned char *slot = v->base + side->names_at + sizeof(struct lk_slot) * i;
                uint32_t ref = lk_load32(slot + offsetof(struct lk_slot, ref));

                if (ref == 0)
                        return LK_ABSENT;
                if (lk_load32(slot + offsetof(struct lk_slot, tag)) == (uint32_t) (hash >> 32) && entry_is(v, side, 8 * (uint64_t) ref, key, ret_row))
                        return LK_FOUND;
        }
        return LK_BROKEN;
}

static enum lk_outcome row_by_id(const struct lk_view *v, const struct lk_side *side, uint32_t id, uint64_t *ret_row) {
        if (!lk_allowed(v, id))
                return LK_ABSENT;
        for (uint32_t i = home(mix(v, id), side->ids_homes); i < side->ids_slots; i++) {
                const unsigned char *slot = v->base + side->ids_at + sizeof(struct lk_slot) * i;
                uint32_t ref = lk_load32(slot + offsetof(struct lk_slot, ref));

                if (ref == 0)
                        return LK_ABSENT;
                if (lk_load32(slot + offsetof(struct lk_slot, tag)) == id) {
                        *ret_row = 8 * (uint64_t) ref;
                        return LK_FOUND;
                }
        }
        return LK_BROKEN;
}

/* The row at an offset, if its ids are such as a snapshot may have. */
static enum lk_outcome take_user(const struct lk_view *v, uint64_t at, struct lk_user *ret) {
        return user_at(v, at, ret) && lk_allowed(v, ret->row.uid) && lk_allowed(v, ret->row.gid) ? LK_FOUND : LK_BROKEN;
}

static enum lk_outcome take_group(const struct lk_view *v, uint64_t at, struct lk_group *ret) {
        return group_at(v, at, ret) && lk_allowed(v, ret->row.gid) ? LK_FOUND : LK_BROKEN;
}

enum lk_outcome lk_user_by_name(const struct lk_view *v, const struct lk_key *key, struct lk_user *ret) {
        uint64_t at;
        enum lk_outcome r = row_by_name(v, &v->users, key, &at);

        return r == LK_FOUND ? take_user(v, at, ret) : r;
}

enum lk_outcome lk_group_by_name(const struct lk_view *v, const struct lk_key *key, struct lk_group *ret) {
        uint64_t at;
        enum lk_outcome r = row_by_name(v, &v->groups, key, &at);

        return r == LK_FOUND ? take_group(v, at, ret) : r;
}

enum lk_outcome lk_user_by_uid(const struct lk_view *v, uint32_t uid, struct lk_user *ret) {
        uint64_t at;
        enum lk_outcome r = row_by_id(v, &v->users, uid, &at);

        if (r == LK_FOUND)
                r = take_user(v, at, ret);
        return r == LK_FOUND && ret->row.uid != uid ? LK_BROKEN : r;
}

enum lk_outcome lk_group_by_gid(const struct lk_view *v, uint32_t gid, struct lk_group *ret) {
        uint64_t at;
        enum lk_outcome r = row_by_id(v, &v->groups, gid, &at);

        if (r == LK_FOUND)
                r = take_group(v, at, ret);
        return r == LK_FOUND && ret->row.gid != gid ? LK_BROKEN : r;
}

/* The first listed user with a greater uid, or with any. Rows are in the order
 * of uids. Where the uid is gone because the snapshot is another one than a
 * moment ago, the way leads through all rows before it. */
enum lk_outcome lk_user_after(const struct lk_view *v, bool any, uint32_t uid, struct lk_user *ret) {
        uint64_t at = v->users.rows_at;

        if (!any) {
                enum lk_outcome r = row_by_id(v, &v->users, uid, &at);

                if (r == LK_ABSENT)
                        at = v->users.rows_at;
                else if (r != LK_FOUND)
                        return r;
        }
        while (at != v->users.rows_end) {
                enum lk_outcome r = take_user(v, at, ret);

                if (r != LK_FOUND)
                        return r;
                if ((any || ret->row.uid > uid) && (ret->row.flags & LK_FLAG_HIDDEN) == 0)
                        return LK_FOUND;
                at += 8 * (uint64_t) ret->row.size;
        }
        return LK_ABSENT;
}

enum lk_outcome lk_group_after(const struct lk_view *v, bool any, uint32_t gid, struct lk_group *ret) {
        uint64_t at = v->groups.rows_at;

        if (!any) {
                enum lk_outcome r = row_by_id(v, &v->groups, gid, &at);

                if (r == LK_ABSENT)
                        at = v->groups.rows_at;
                else if (r != LK_FOUND)
                        return r;
        }
        while (at != v->groups.rows_end) {
                enum lk_outcome r = take_group(v, at, ret);

                if (r != LK_FOUND)
                        return r;
                if ((any || ret->row.gid > gid) && (ret->row.flags & LK_FLAG_HIDDEN) == 0)
                        return LK_FOUND;
                at += 8 * (uint64_t) ret->row.size;
        }
        return LK_ABSENT;
}
