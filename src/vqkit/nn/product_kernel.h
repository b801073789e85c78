/* Rows times panels by vectors of one width; product.c says what the names stand for. */

#define VECTORS (WIDTH * sizeof(float) / sizeof(FLOATS)) /* of a panel */
#define VECTOR(p, j) (((const FLOATS *)(p))[j])

/* ``rows`` rows from the r-th on, times ``num`` panels from the p-th on: both known when compiled. */
INLINE void JOIN(tile_, NAME)(const Product *t, int64_t r, int64_t p, int rows, int num) {
    const float *x = t->x + r * t->dim, *panel = t->panels + p * t->dim * WIDTH;
    const size_t vectors = VECTORS * (size_t)num, lanes = WIDTH / VECTORS;
    FLOATS sums[MOST_ROWS][2 * VECTORS];
    for (int i = 0; i < rows; i++)
        for (size_t j = 0; j < vectors; j++) sums[i][j] = VECTOR(t->bias + p * WIDTH, j);
    for (int64_t k = 0; k < t->dim; k++) {
        const float *w = panel + k * WIDTH;
        __builtin_prefetch(w + num * t->dim * WIDTH); /* what comes next, a line of the cache each */
        for (int i = 0; i < rows; i++) {
            const float each = x[i * t->dim + k];
            for (size_t j = 0; j < vectors; j++)
                sums[i][j] += each * VECTOR(w + (int64_t)(j / VECTORS) * t->dim * WIDTH, j % VECTORS);
        }
    }
    for (int i = 0; i < rows; i++) {
        float *y = t->y + (r + i) * t->size + p * WIDTH;
        const int64_t left = t->size - p * WIDTH;
        for (size_t j = 0; j < vectors; j++) {
            const int64_t rest = left - (int64_t)(j * lanes);
            if (rest >= (int64_t)lanes)
                ((FLOATS *)y)[j] = sums[i][j];
            else if (rest > 0)
                memcpy(y + j * lanes, &sums[i][j], (size_t)rest * sizeof(float));
        }
    }
}

/* At most MOST_ROWS rows times one or two panels. */
INLINE void JOIN(rows_, NAME)(const Product *t, int64_t r, int64_t p, int64_t rows, int num) {
    switch (rows) {
        case 1: JOIN(tile_, NAME)(t, r, p, 1, num); break;
        case 2: JOIN(tile_, NAME)(t, r, p, 2, num); break;
        case 3: JOIN(tile_, NAME)(t, r, p, 3, num); break;
        case 4: JOIN(tile_, NAME)(t, r, p, 4, num); break;
        case 5: JOIN(tile_, NAME)(t, r, p, 5, num); break;
        case 6: JOIN(tile_, NAME)(t, r, p, 6, num); break;
#if MOST_ROWS > 6
        case 7: JOIN(tile_, NAME)(t, r, p, 7, num); break;
        case 8: JOIN(tile_, NAME)(t, r, p, 8, num); break;
#endif
    }
}

TARGET static void JOIN(panels_, NAME)(const Product *t, int64_t first, int64_t last) {
    const int64_t blocks = (t->rows + MOST_ROWS - 1) / MOST_ROWS; /* as even as can be */
    for (int64_t p = first, num; p < last; p += num) {
        num = t->rows <= FEW_ROWS * blocks && p + 2 <= last ? 2 : 1;
        for (int64_t i = 0; i < blocks; i++) {
            const int64_t r = t->rows * i / blocks, rows = t->rows * (i + 1) / blocks - r;
            if (num == 2)
                JOIN(rows_, NAME)(t, r, p, rows, 2);
            else
                JOIN(rows_, NAME)(t, r, p, rows, 1);
        }
    }
}

#undef VECTORS
#undef VECTOR
#undef NAME
#undef TARGET
#undef FLOATS
#undef MOST_ROWS
#undef FEW_ROWS
