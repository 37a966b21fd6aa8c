/* SPDX-License-Identifier: Apache-2.0 */

/* Names as asked: lower case, and the hash that finds them. */

#include <string.h>

#include "latchkey.h"
#include "lower.h"

#define ONES UINT64_C(0x0101010101010101)

/* Lowers eight letters of ASCII at once; bytes beyond ASCII stay as they are. */
static uint64_t lower_word(uint64_t w) {
        uint64_t low = w & (ONES * 0x7f);
        uint64_t from_a = low + ONES * (0x80 - 'A');
        uint64_t beyond_z = low + ONES * (0x7f - 'Z');

        return w | (((from_a ^ beyond_z) & ~w & (ONES * 0x80)) >> 2);
}

static uint32_t lower_rune(uint32_t r) {
        size_t low = 0, high = LK_LOWER_RUNS;

        if (r < 0x80)
                return r >= 'A' && r <= 'Z' ? r + ('a' - 'A') : r;
        while (low < high) {
                size_t middle = (low + high) / 2;
                const struct lk_lower *run = &lk_lower[middle];

                if (r > run->last)
                        low = middle + 1;
                else if (r < run->first)
                        high = middle;
                else if ((r - run->first) % run->step != 0)
                        return r;
                else
                        return (uint32_t) ((int32_t) r + run->delta);
        }
        return r;
}

/* Reads one letter of UTF-8 (RFC 3629); 0 for what is none. The string ends
 * with a NUL, which is no continuation byte, so nothing beyond it is read. */
static size_t read_rune(const unsigned char *s, uint32_t *ret_rune) {
        static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
        size_t n = s[0] < 0x80 ? 1 : s[0] >= 0xc2 && s[0] < 0xe0 ? 2 : s[0] >= 0xe0 && s[0] < 0xf0 ? 3 : s[0] >= 0xf0 && s[0] < 0xf5 ? 4 : 0;
        uint32_t r;

        if (n <= 1) {
                *ret_rune = s[0];
                return n;
        }
        r = s[0] & (0x7fU >> n);
        for (size_t i = 1; i < n; i++) {
                if ((s[i] & 0xc0) != 0x80)
                        return 0;
                r = r << 6 | (s[i] & 0x3fU);
        }
        if (r < least[n] || r > 0x10ffff || (r >= 0xd800 && r <= 0xdfff))
                return 0;
        *ret_rune = r;
        return n;
}

static size_t write_rune(unsigned char *s, uint32_t r) {
        if (r < 0x80) {
                s[0] = (unsigned char) r;
                return 1;
        }
        if (r < 0x800) {
                s[0] = (unsigned char) (0xc0 | r >> 6);
                s[1] = (unsigned char) (0x80 | (r & 0x3f));
                return 2;
        }
        if (r < 0x10000) {
                s[0] = (unsigned char) (0xe0 | r >> 12);
                s[1] = (unsigned char) (0x80 | (r >> 6 & 0x3f));
                s[2] = (unsigned char) (0x80 | (r & 0x3f));
                return 3;
        }
        s[0] = (unsigned char) (0xf0 | r >> 18);
        s[1] = (unsigned char) (0x80 | (r >> 12 & 0x3f));
        s[2] = (unsigned char) (0x80 | (r >> 6 & 0x3f));
        s[3] = (unsigned char) (0x80 | (r & 0x3f));
        return 4;
}

/* The way of names beyond ASCII: letter by letter, as Lower() of
 * internal/snapshot does. Returns the size, 0 for what is not UTF-8 or too long. */
static uint32_t lower_letters(struct lk_key *key, const unsigned char *name) {
        size_t size = 0;

        while (*name != '\0') {
                uint32_t r;
                size_t n = read_rune(name, &r);

                if (n == 0)
                        return 0;
                name += n;
                size += write_rune(key->bytes + size, lower_rune(r));
                if (size > LK_MAX_KEY)
                        return 0;
        }
        memset(key->bytes + size, 0, 8);
        return (uint32_t) size;
}

void lk_key_init(struct lk_key *ret_key, const char *name) {
        size_t size = strnlen(name, LK_MAX_KEY + 1);
        uint64_t all = 0;

        ret_key->size = 0;
        if (size == 0 || size > LK_MAX_KEY)
                return;
        memcpy(ret_key->bytes, name, size);
        memset(ret_key->bytes + size, 0, 8);
        for (size_t i = 0; i <= size / 8; i++) {
                all |= ret_key->words[i];
                ret_key->words[i] = lower_word(ret_key->words[i]);
        }
        ret_key->size = (all & (ONES * 0x80)) == 0 ? (uint32_t) size : lower_letters(ret_key, (const unsigned char *) name);
}

static inline uint64_t rotate(uint64_t x, unsigned by) {
        return x << by | x >> (64 - by);
}

static inline uint64_t little(uint64_t w) {
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
        return __builtin_bswap64(w);
#else
        return w;
#endif
}

/* SipHash-1-3 (Aumasson and Bernstein, 2012). The words hold size bytes, and
 * zeroes from there to the end of the last word. */
uint64_t lk_hash(const uint64_t seed[2], const uint64_t *words, uint32_t size) {
        uint64_t v0 = seed[0] ^ UINT64_C(0x736f6d6570736575);
        uint64_t v1 = seed[1] ^ UINT64_C(0x646f72616e646f6d);
        uint64_t v2 = seed[0] ^ UINT64_C(0x6c7967656e657261);
        uint64_t v3 = seed[1] ^ UINT64_C(0x7465646279746573);
        uint32_t count = size / 8 + 1;

        for (uint32_t i = 0; i < count + 3; i++) {
                uint64_t w = 0;

                if (i + 1 < count)
                        w = little(words[i]);
                else if (i + 1 == count)
                        w = (size % 8 != 0 ? little(words[i]) : 0) | (uint64_t) size << 56;
                else if (i == count)
                        v2 ^= 0xff;
                v3 ^= w;
                v0 += v1;
                v1 = rotate(v1, 13) ^ v0;
                v0 = rotate(v0, 32);
                v2 += v3;
                v3 = rotate(v3, 16) ^ v2;
                v0 += v3;
                v3 = rotate(v3, 21) ^ v0;
                v2 += v1;
                v1 = rotate(v1, 17) ^ v2;
                v2 = rotate(v2, 32);
                v0 ^= w;
        }
        return v0 ^ v1 ^ v2 ^ v3;
}
