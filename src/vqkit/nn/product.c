/* x W^T + b for few rows x: what sampling does with the weights of each layer and step.
 *
 * Sums run over the numbers of a row from first to last, so that no row depends on the others in any
 * bit. Weights lie in panels, W[16 p + i, k] at (p, k, i), in the order in which they are read: that
 * takes most of the time. A plain C interface: nothing of Python or torch.
 */

#include <string.h>

#include "eight.h"

enum { WIDTH = 16 }; /* of a panel */

typedef struct {
    const float *x;      /* (rows, dim) */
    const float *panels; /* (P, dim, WIDTH) */
    const float *bias;   /* (P, WIDTH) */
    float *y;            /* (rows, size) */
    int64_t rows, dim, size;
} Product;

#define JOIN2(a, b) a##b
#define JOIN(a, b) JOIN2(a, b)

/* For each width of vectors: NAME, what functions are called; TARGET, the processors; FLOATS, a
 * vector; MOST_ROWS, of one panel, and FEW_ROWS, of two, whose sums registers hold. */
#if defined(__x86_64__)
#define NAME avx512
#define TARGET AVX512
#define FLOATS Sixteen
#define MOST_ROWS 8
#define FEW_ROWS 8
#include "product_kernel.h"

#define NAME avx2
#define TARGET AVX2
#define FLOATS Eight
#define MOST_ROWS 6
#define FEW_ROWS 3
#include "product_kernel.h"
#endif

#define NAME plain
#define TARGET
#define FLOATS Eight
#define MOST_ROWS 6
#define FEW_ROWS 3
#include "product_kernel.h"

/* The columns of y that lie in panels ``first`` to ``last``, by vectors of at most ``most``. */
int vqkit_product(const float *x, const float *panels, const float *bias, float *y, int64_t rows,
                  int64_t dim, int64_t size, int64_t first, int64_t last, int64_t most) {
    const Product t = {x, panels, bias, y, rows, dim, size};
#if defined(__x86_64__)
    if (most >= 16 && HAS_AVX512) {
        panels_avx512(&t, first, last);
        return 0;
    }
    if (most >= 8 && HAS_AVX2) {
        panels_avx2(&t, first, last);
        return 0;
    }
#endif
    (void)most;
    panels_plain(&t, first, last);
    return 0;
}

/* Of which sources this was made; see compiled.py. */
#ifndef VQKIT_SOURCES
#define VQKIT_SOURCES 0
#endif
uint32_t vqkit_sources(void) { return VQKIT_SOURCES; }
