/* x W^T + b for few rows x: what sampling does with the weights of each layer and step.
 *
 * Sums run over the numbers of a row from first to last, so that no row depends on the others in any
 * bit. Weights lie in panels, W[16 p + i, k] at (p, k, i), in the order in which they are read: that
 * takes most of the time. A plain C interface: nothing of Python or torch.
 */

#include <string.h>

#include "eight.h"

enum { WIDTH = 2 * LANES, MOST_ROWS = 6, FEW_ROWS = 3 }; /* of a panel; of what registers hold */

typedef struct {
    const float *x;      /* (rows, dim) */
    const float *panels; /* (P, dim, WIDTH) */
    const float *bias;   /* (P, WIDTH) */
    float *y;            /* (rows, size) */
    int64_t rows, dim, size;
} Product;

/* ``rows`` rows from the r-th on, times ``num`` panels from the p-th on: both known when compiled. */
INLINE void tile(const Product *t, int64_t r, int64_t p, int rows, int num) {
    const float *x = t->x + r * t->dim, *panel = t->panels + p * t->dim * WIDTH;
    Eight sums[MOST_ROWS][2 * (MOST_ROWS / FEW_ROWS)];
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < 2 * num; j++) sums[i][j] = FROM(t->bias + p * WIDTH + j * LANES);
    for (int64_t k = 0; k < t->dim; k++) {
        const float *w = panel + k * WIDTH;
        __builtin_prefetch(w + num * t->dim * WIDTH); /* what comes next, a line of the cache each */
        for (int i = 0; i < rows; i++) {
            const float each = x[i * t->dim + k];
            for (int j = 0; j < 2 * num; j++)
                sums[i][j] += each * FROM(w + j / 2 * t->dim * WIDTH + j % 2 * LANES);
        }
    }
    for (int i = 0; i < rows; i++) {
        float *y = t->y + (r + i) * t->size + p * WIDTH;
        const int64_t left = t->size - p * WIDTH;
        for (int j = 0; j < 2 * num; j++) {
            if ((j + 1) * LANES <= left)
                AT(y + j * LANES) = sums[i][j];
            else if (j * LANES < left)
                memcpy(y + j * LANES, &sums[i][j], (size_t)(left - j * LANES) * sizeof(float));
        }
    }
}

/* At most MOST_ROWS rows times a panel. */
INLINE void rows_of(const Product *t, int64_t r, int64_t p, int64_t rows) {
    switch (rows) {
        case 1: tile(t, r, p, 1, 1); break;
        case 2: tile(t, r, p, 2, 1); break;
        case 3: tile(t, r, p, 3, 1); break;
        case 4: tile(t, r, p, 4, 1); break;
        case 5: tile(t, r, p, 5, 1); break;
        default: tile(t, r, p, 6, 1);
    }
}

/* At most FEW_ROWS rows times two panels, so that the sums do not wait for one another. */
INLINE void few_rows_of(const Product *t, int64_t p) {
    switch (t->rows) {
        case 1: tile(t, 0, p, 1, 2); break;
        case 2: tile(t, 0, p, 2, 2); break;
        default: tile(t, 0, p, 3, 2);
    }
}

INLINE void panels_of(const Product *t, int64_t first, int64_t last) {
    const int64_t blocks = (t->rows + MOST_ROWS - 1) / MOST_ROWS; /* as even as can be */
    if (t->rows > 0 && t->rows <= FEW_ROWS) {
        for (; first + 2 <= last; first += 2) few_rows_of(t, first);
    }
    for (int64_t p = first; p < last; p++) {
        for (int64_t i = 0; i < blocks; i++) {
            const int64_t r = t->rows * i / blocks;
            rows_of(t, r, p, t->rows * (i + 1) / blocks - r);
        }
    }
}

#if defined(__x86_64__)
AVX2 static void wide(const Product *t, int64_t first, int64_t last) { panels_of(t, first, last); }
#endif

/* The columns of y that lie in panels ``first`` to ``last``; ``narrow`` does without AVX2. */
int vqkit_product(const float *x, const float *panels, const float *bias, float *y, int64_t rows,
                  int64_t dim, int64_t size, int64_t first, int64_t last, int64_t narrow) {
    const Product t = {x, panels, bias, y, rows, dim, size};
#if defined(__x86_64__)
    if (!narrow && HAS_AVX2) {
        wide(&t, first, last);
        return 0;
    }
#endif
    (void)narrow;
    panels_of(&t, first, last);
    return 0;
}

/* Of which sources this was made; see compiled.py. */
#ifndef VQKIT_SOURCES
#define VQKIT_SOURCES 0
#endif
uint32_t vqkit_sources(void) { return VQKIT_SOURCES; }
