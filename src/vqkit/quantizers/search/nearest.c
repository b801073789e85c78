/* Exact nearest entry: products in registers, never a matrix of vectors by entries.
 *
 * The nearest entry e of a vector z has the largest score z.e - |e|^2 / 2, both centred. Scores are
 * found in float32 together with the second best; where the two are so close that rounding could
 * have swapped them, the distances themselves are compared in float64, the lowest index on ties.
 *
 * One kernel, in nearest_kernel.h, is compiled for several vector widths; the widest that the
 * processor has is chosen when it runs. A plain C interface: nothing of Python or torch.
 */

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define JOIN2(a, b) a##b
#define JOIN(a, b) JOIN2(a, b)

enum {
    PANEL = 48,            /* entries side by side: 3 registers of 16, 6 of 8, 12 of 4 */
    BLOCK_BYTES = 1 << 18, /* of entries, which stay in the cache while all vectors pass */
    CHUNK = 256            /* vectors that pass a block in turn; a multiple of every ROWS */
};
#define ROUNDING 0x1p-24f /* of one float32 operation, relative */
#define LOST 0x1p-126f    /* of a product that is too small to keep, at most */
#define LONGEST 0x1p62f   /* of two lengths together: no product or sum of theirs overflows */

/* A codebook, prepared; made once for all vectors of a search. */
typedef struct {
    const float *entries; /* as they are: (K, D) */
    const float *panels;  /* entries - center: (K / PANEL, D, PANEL) */
    const float *bias;    /* -|e - center|^2 / 2, and -inf where there is no entry, or a copy: (K,) */
    const float *center;  /* (D,) */
    int64_t size, dim, num_panels;
    float longest; /* the largest |e - center| */
    float slack;   /* times |e - center| (|z - center| + |e - center|): how far apart rounding */
    float least;   /* leaves two scores, but for what is lost because it is too small */
} Table;

/* What is known of one vector: its best panel and lane, and the score of the next best. */
typedef struct {
    float best, second;
    int64_t panel;
    int lane;
} Found;

static void merge(Found *found, float best, int64_t panel, int lane, float second) {
    if (best > found->best) {
        float lost = found->best;
        *found = (Found){best, lost > second ? lost : second, panel, lane};
    } else {
        if (best > found->second) found->second = best;
        if (second > found->second) found->second = second;
    }
}

static double square(double x) { return x * x; }

/* The nearest by distance in float64 of some entries, in ascending order, and of what was found
 * before. Each distance is summed one by one, four side by side. */
static void nearer(const Table *t, const float *z, const int64_t *entries, int count,
                   double *nearest, int64_t *index) {
    for (int first = 0; first < count; first += 4) {
        const float *rows[4];
        for (int i = 0; i < 4; i++) /* the first one fills */
            rows[i] = t->entries + entries[first + i < count ? first + i : first] * t->dim;
        const float *a = rows[0], *b = rows[1], *c = rows[2], *e = rows[3];
        double of_a = 0, of_b = 0, of_c = 0, of_e = 0;
        for (int64_t d = 0; d < t->dim; d++) {
            double x = z[d];
            of_a += square(x - a[d]);
            of_b += square(x - b[d]);
            of_c += square(x - c[d]);
            of_e += square(x - e[d]);
        }
        const double distances[4] = {of_a, of_b, of_c, of_e};
        for (int i = 0; i < 4 && first + i < count; i++)
            if (distances[i] < *nearest) *nearest = distances[i], *index = entries[first + i];
    }
}

#if defined(__x86_64__)
#include <immintrin.h>

#define NAME avx512
#define TARGET __attribute__((target("avx512f")))
#define WIDTH 16
#define ROWS 4 /* with 3 registers each for sums and for what was found, all fit */
#define FLOATS __m512
#define INTS __m512i
#define LOAD(p) _mm512_loadu_ps(p)
#define STORE(p, x) _mm512_storeu_ps(p, x)
#define STORE_INTS(p, x) _mm512_storeu_si512(p, x)
#define SPREAD(x) _mm512_set1_ps(x)
#define SPREAD_INT(x) _mm512_set1_epi32(x)
#define FMA(a, b, c) _mm512_fmadd_ps(a, b, c)
#define MAX(a, b) _mm512_max_ps(a, b)
#define MIN(a, b) _mm512_min_ps(a, b)
#define LARGER __mmask16
#define IS_LARGER(a, b) _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ)
#define PICK(where, a, b) _mm512_mask_mov_epi32(b, where, a)
#define LEAVE() _mm256_zeroupper() /* or what is narrower waits for the upper halves */
#include "nearest_kernel.h"

#define NAME avx2
#define TARGET __attribute__((target("avx2,fma")))
#define WIDTH 8
#define ROWS 2
#define FLOATS __m256
#define INTS __m256i
#define LOAD(p) _mm256_loadu_ps(p)
#define STORE(p, x) _mm256_storeu_ps(p, x)
#define STORE_INTS(p, x) _mm256_storeu_si256((__m256i *)(p), x)
#define SPREAD(x) _mm256_set1_ps(x)
#define SPREAD_INT(x) _mm256_set1_epi32(x)
#define FMA(a, b, c) _mm256_fmadd_ps(a, b, c)
#define MAX(a, b) _mm256_max_ps(a, b)
#define MIN(a, b) _mm256_min_ps(a, b)
#define LARGER __m256i
#define IS_LARGER(a, b) _mm256_castps_si256(_mm256_cmp_ps(a, b, _CMP_GT_OQ))
#define PICK(where, a, b) _mm256_blendv_epi8(b, a, where)
#define LEAVE() _mm256_zeroupper()
#include "nearest_kernel.h"
#endif

#if defined(__aarch64__)
#include <arm_neon.h>

#define NAME neon
#define TARGET
#define WIDTH 4
#define ROWS 2
#define FLOATS float32x4_t
#define INTS int32x4_t
#define LOAD(p) vld1q_f32(p)
#define STORE(p, x) vst1q_f32(p, x)
#define STORE_INTS(p, x) vst1q_s32(p, x)
#define SPREAD(x) vdupq_n_f32(x)
#define SPREAD_INT(x) vdupq_n_s32(x)
#define FMA(a, b, c) vfmaq_f32(c, a, b)
#define MAX(a, b) vmaxq_f32(a, b)
#define MIN(a, b) vminq_f32(a, b)
#define LARGER uint32x4_t
#define IS_LARGER(a, b) vcgtq_f32(a, b)
#define PICK(where, a, b) vbslq_s32(where, a, b)
#define LEAVE()
#include "nearest_kernel.h"
#endif

/* Any other processor: four at a time by what GCC and Clang make of it. */
typedef float Four __attribute__((vector_size(16)));
typedef int32_t FourInts __attribute__((vector_size(16)));

static inline Four load_four(const float *p) {
    Four x;
    memcpy(&x, p, sizeof x);
    return x;
}

#define NAME plain
#define TARGET
#define WIDTH 4
#define ROWS 2
#define FLOATS Four
#define INTS FourInts
#define LOAD(p) load_four(p)
#define STORE(p, x) memcpy(p, &(x), sizeof(Four))
#define STORE_INTS(p, x) memcpy(p, &(x), sizeof(FourInts))
#define SPREAD(x) ((Four){(x), (x), (x), (x)})
#define SPREAD_INT(x) ((FourInts){(x), (x), (x), (x)})
#define FMA(a, b, c) ((a) * (b) + (c))
#define MAX(a, b) ((Four)PICK((a) > (b), (FourInts)(a), (FourInts)(b)))
#define MIN(a, b) ((Four)PICK((a) < (b), (FourInts)(a), (FourInts)(b)))
#define LARGER FourInts
#define IS_LARGER(a, b) ((a) > (b))
#define PICK(where, a, b) (((where) & (a)) | (~(where) & (b)))
#define LEAVE()
#include "nearest_kernel.h"

typedef int (*Search)(const Table *, const float *, int64_t, int64_t *);

/* The kernel for the widest vectors that the processor has, of at most some numbers each. */
static Search kernel_for(int64_t most) {
#if defined(__x86_64__)
    if (most >= 16 && __builtin_cpu_supports("avx512f")) return search_avx512;
    if (most >= 8 && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return search_avx2;
#elif defined(__aarch64__)
    if (most >= 8) return search_neon;
#endif
    (void)most;
    return search_plain;
}

/* Bytes that vqkit_prepare fills, for K entries of length D. */
int64_t vqkit_table_bytes(int64_t size, int64_t dim) {
    int64_t padded = (size + PANEL - 1) / PANEL * PANEL;
    return (padded * (dim + 1) + dim + 1) * (int64_t)sizeof(float);
}

static Table table_at(const float *entries, int64_t size, int64_t dim, float *room) {
    int64_t num_panels = (size + PANEL - 1) / PANEL, padded = num_panels * PANEL;
    float *bias = room + padded * dim, *center = bias + padded;
    float longest = center[dim], terms = 2 * (float)(dim + 10);
    return (Table){entries,    room,    bias,    center,
                   size,       dim,     num_panels, longest,
                   terms * ROUNDING, 2 * terms * LOST};
}

/* Takes equal entries but the first out of the search: they could never be chosen, and float32
 * would leave each of their vectors to the distances. Without memory they stay. */
static void drop_copies(const float *entries, int64_t size, int64_t dim, float *bias) {
    int bits = 1;
    while (((int64_t)1 << bits) < 2 * size) bits++;
    const int64_t num_slots = (int64_t)1 << bits;
    int64_t *slots = malloc((size_t)(num_slots + dim) * sizeof(int64_t)); /* by their hash */
    if (!slots) return;
    uint64_t *factors = (uint64_t *)(slots + num_slots);
    for (int64_t i = 0; i < num_slots; i++) slots[i] = -1;
    for (int64_t d = 0; d < dim; d++) /* powers, or sums of few different words would coincide */
        factors[d] = 0x9E3779B97F4A7C15u * (d ? factors[d - 1] : 1);
    for (int64_t k = 0; k < size; k++) {
        const float *entry = entries + k * dim;
        uint64_t hash = 0;
        for (int64_t d = 0; d < dim; d++) {
            uint32_t word;
            memcpy(&word, entry + d, sizeof word);
            hash += word * factors[d];
        }
        int64_t slot = (int64_t)(hash >> (64 - bits));
        size_t bytes = (size_t)dim * sizeof(float);
        while (slots[slot] >= 0 && memcmp(entries + slots[slot] * dim, entry, bytes) != 0)
            slot = (slot + 1) % num_slots;
        if (slots[slot] < 0)
            slots[slot] = k;
        else
            bias[k] = -INFINITY;
    }
    free(slots);
}

/* Centres the entries and lays them side by side in ``room``, once for so many vectors. */
void vqkit_prepare(const float *entries, int64_t size, int64_t dim, float *room, int64_t num) {
    Table t = table_at(entries, size, dim, room);
    float *panels = room, *bias = (float *)t.bias, *center = (float *)t.center;
    for (int64_t d = 0; d < dim; d++) center[d] = 0;
    for (int64_t k = 0; k < size; k++)
        for (int64_t d = 0; d < dim; d++) center[d] += entries[k * dim + d] / (float)size;
    double longest = 0;
    for (int64_t p = 0; p < t.num_panels; p++) {
        for (int j = 0; j < PANEL; j++) {
            int64_t k = p * PANEL + j;
            double square = 0;
            for (int64_t d = 0; d < dim; d++) {
                float x = k < size ? entries[k * dim + d] - center[d] : 0;
                panels[(p * dim + d) * PANEL + j] = x;
                square += (double)x * x;
            }
            bias[k] = k < size ? (float)(-square / 2) : -INFINITY;
            if (square > longest) longest = square;
        }
    }
    if (num >= size / 4) drop_copies(entries, size, dim, bias); /* for fewer it costs more */
    center[dim] = (float)(sqrt(longest + dim * LOST) * (1 + 1e-6));
}

/* Vectors (N, D) to the indices (N,) of their nearest entries; -1 without memory. */
int vqkit_nearest(const float *entries, int64_t size, int64_t dim, float *room, const float *z,
                  int64_t num, int64_t *indices, int64_t most) {
    Table t = table_at(entries, size, dim, room);
    return kernel_for(most)(&t, z, num, indices);
}

/* Of which sources this was made; see compiled.py. */
#ifndef VQKIT_SOURCES
#define VQKIT_SOURCES 0
#endif
uint32_t vqkit_sources(void) { return VQKIT_SOURCES; }
