/* One new position of causal attention with a cache: what sampling does in each block and step.
 *
 * Sums run side by side over places or over numbers of a vector, so that none is reordered. A plain
 * C interface: nothing of Python or torch.
 */

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "eight.h"

enum { TILE = 4 * LANES }; /* places of a panel of keys */

/* p := exp(p - largest), to 2 in the last place: 2^n times a polynomial in the rest (Cephes, expf).
 * Nothing is below -87, where float32 loses digits and a softmax has 0. */
INLINE void exp_of(float *p, float largest) {
    Eight x = FROM(p) - largest;
    const EightInts low = x < -87.0f;
    const Eight shift = (Eight){0} + 0x1.8p23f;
    x = (Eight)((low & (EightInts)((Eight){0} - 87.0f)) | (~low & (EightInts)x));
    const Eight n = (x * 0x1.715476p0f + shift) - shift; /* rounded to an integer */
    const Eight r = (x - n * 0.693359375f) - n * -2.12194440e-4f;
    Eight y = r * 1.9875691500e-4f + 1.3981999507e-3f;
    y = y * r + 8.3334519073e-3f;
    y = y * r + 4.1665795894e-2f;
    y = y * r + 1.6666665459e-1f;
    y = y * r + 5.0000001201e-1f;
    y = y * r * r + r + 1.0f;
    AT(p) = y * (Eight)((__builtin_convertvector(n, EightInts) + 127) << 23);
}

/* sums[i] := sum over t of weights[t] rows[t * stride + i] for a tile of i. */
INLINE void weighted(const float *weights, const float *rows, int64_t stride, int64_t num,
                     float *sums) {
    Eight a = {0}, b = {0}, c = {0}, d = {0};
    for (int64_t t = 0; t < num; t++) {
        const float *row = rows + t * stride;
        a += weights[t] * FROM(row);
        b += weights[t] * FROM(row + LANES);
        c += weights[t] * FROM(row + 2 * LANES);
        d += weights[t] * FROM(row + 3 * LANES);
    }
    AT(sums) = a, AT(sums + LANES) = b, AT(sums + 2 * LANES) = c, AT(sums + 3 * LANES) = d;
}

/* The same for all i below ``size``. */
INLINE void weighted_sums(const float *weights, const float *rows, int64_t stride, int64_t num,
                          int64_t size, float *sums) {
    int64_t i = 0;
    for (; i + TILE <= size; i += TILE) weighted(weights, rows + i, stride, num, sums + i);
    for (; i + LANES <= size; i += LANES) {
        Eight part = {0};
        for (int64_t t = 0; t < num; t++) part += weights[t] * FROM(rows + t * stride + i);
        AT(sums + i) = part;
    }
    for (; i < size; i++) {
        float part = 0;
        for (int64_t t = 0; t < num; t++) part += weights[t] * rows[t * stride + i];
        sums[i] = part;
    }
}

/* softmax(q K^T / sqrt(D)) V of one head of one item, over ``num`` places.
 *
 * keys: (panels, D, TILE), the places of a panel side by side; values: (places, D); room: num, up
 * to a full panel. */
INLINE void one_head(const float *q, const float *keys, const float *values, int64_t dim,
                     int64_t num, float *room, float *mixed) {
    const int64_t padded = (num + TILE - 1) / TILE * TILE;
    const float scale = 1.0f / sqrtf((float)dim);
    Eight most = (Eight){0} - INFINITY, sums = {0};
    float largest = -INFINITY, sum = 0;
    for (int64_t t = 0; t < padded; t += TILE)
        weighted(q, keys + t * dim, TILE, dim, room + t);
    for (int64_t t = num; t < padded; t++) room[t] = -INFINITY;
    for (int64_t t = 0; t < padded; t += LANES) {
        const Eight x = AT(room + t) *= scale;
        const EightInts more = x > most;
        most = (Eight)((more & (EightInts)x) | (~more & (EightInts)most));
    }
    for (int i = 0; i < LANES; i++) largest = most[i] > largest ? most[i] : largest;
    for (int64_t t = 0; t < padded; t += LANES) {
        exp_of(room + t, largest);
        sums += AT(room + t);
    }
    for (int i = 0; i < LANES; i++) sum += sums[i];
    for (int64_t t = 0; t < num; t++) room[t] /= sum;
    weighted_sums(room, values, dim, num, dim, mixed);
}

typedef struct {
    const float *rows;          /* queries, keys and values of the new position: (B, 3, H, D) */
    float *keys, *values;       /* of the places so far: (B, H, panels, D, TILE), (B, H, places, D) */
    float *mixed;               /* (B, H, D) */
    int64_t heads, dim, panels, position;
} Step;

INLINE int heads_of(const Step *s, int64_t first, int64_t last) {
    const int64_t width = s->heads * s->dim, size = s->panels * TILE * s->dim;
    const int64_t panel = s->position / TILE, lane = s->position % TILE;
    float *room = malloc((size_t)(panel + 1) * TILE * sizeof(float));
    if (!room) return -1;
    for (int64_t i = first; i < last; i++) { /* heads of all items, one after another */
        const float *q = s->rows + i / s->heads * 3 * width + i % s->heads * s->dim;
        const float *k = q + width, *v = k + width;
        float *keys = s->keys + i * size, *values = s->values + i * size;
        for (int64_t d = 0; d < s->dim; d++) keys[(panel * s->dim + d) * TILE + lane] = k[d];
        memcpy(values + s->position * s->dim, v, (size_t)s->dim * sizeof(float));
        one_head(q, keys, values, s->dim, s->position + 1, room, s->mixed + i * s->dim);
    }
    free(room);
    return 0;
}

#if defined(__x86_64__)
AVX2 static int wide(const Step *s, int64_t first, int64_t last) { return heads_of(s, first, last); }
#endif

/* Whether the processor is one for these functions: elsewhere the compiler's code is slow. */
int vqkit_is_fast(void) {
#if defined(__x86_64__)
    return HAS_AVX2;
#else
    return 0;
#endif
}

/* Numbers that keys and values of one head have each, for so many places. */
int64_t vqkit_attend_size(int64_t places, int64_t dim) {
    return (places + TILE - 1) / TILE * TILE * dim;
}

/* Keeps keys and values of a position and attends to it and to those before: heads ``first`` to
 * ``last`` of B H, whose ``size`` is that of vqkit_attend_size. By vectors of at most
 * ``most`` numbers; -1 without memory. */
int vqkit_attend(const float *rows, float *keys, float *values, float *mixed, int64_t heads,
                 int64_t dim, int64_t size, int64_t position, int64_t first, int64_t last,
                 int64_t most) {
    const Step s = {rows, keys, values, mixed, heads, dim, size / dim / TILE, position};
#if defined(__x86_64__)
    if (most >= 8 && HAS_AVX2) return wide(&s, first, last);
#endif
    (void)most;
    return heads_of(&s, first, last);
}
