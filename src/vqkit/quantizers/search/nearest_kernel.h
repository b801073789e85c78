/* The search for one vector width; nearest.c says what the names stand for. */

#define VECTORS (PANEL / WIDTH)

/* ROWS centred vectors against some panels. Of the entries that share a panel and a lane only the
 * best is remembered; ``decide`` looks at the others of the winner. */
TARGET static void JOIN(tile_, NAME)(const Table *t, const float *centred, int64_t first,
                                     int64_t last, Found *found) {
    const int64_t dim = t->dim;
    FLOATS best[ROWS], second[ROWS];
    INTS panel_of[ROWS];
    for (int r = 0; r < ROWS; r++) {
        best[r] = second[r] = SPREAD(-INFINITY);
        panel_of[r] = SPREAD_INT(0);
    }
    for (int64_t p = first; p < last; p++) {
        const float *panel = t->panels + p * dim * PANEL;
        FLOATS sums[ROWS][VECTORS];
        for (int v = 0; v < VECTORS; v++) {
            FLOATS bias = LOAD(t->bias + p * PANEL + v * WIDTH);
            for (int r = 0; r < ROWS; r++) sums[r][v] = bias;
        }
        for (int64_t d = 0; d < dim; d++) {
            FLOATS part[VECTORS];
            for (int v = 0; v < VECTORS; v++) part[v] = LOAD(panel + d * PANEL + v * WIDTH);
            for (int r = 0; r < ROWS; r++) {
                FLOATS x = SPREAD(centred[r * dim + d]);
                for (int v = 0; v < VECTORS; v++) sums[r][v] = FMA(x, part[v], sums[r][v]);
            }
        }
        INTS here = SPREAD_INT((int32_t)(p - first));
        for (int r = 0; r < ROWS; r++) {
            FLOATS most = sums[r][0];
            for (int v = 1; v < VECTORS; v++) most = MAX(most, sums[r][v]);
            LARGER where = IS_LARGER(most, best[r]);
            panel_of[r] = PICK(where, here, panel_of[r]);
            second[r] = MAX(second[r], MIN(best[r], most));
            best[r] = MAX(best[r], most);
        }
    }
    for (int r = 0; r < ROWS; r++) {
        float bests[WIDTH], seconds[WIDTH];
        int32_t panels[WIDTH];
        STORE(bests, best[r]);
        STORE(seconds, second[r]);
        STORE_INTS(panels, panel_of[r]);
        for (int lane = 0; lane < WIDTH; lane++)
            merge(&found[r], bests[lane], first + panels[lane], lane, seconds[lane]);
    }
}

/* The nearest by distance of the entries whose score is not less than some number. */
TARGET static int64_t JOIN(by_distance_, NAME)(const Table *t, const float *z,
                                               const float *centred, float least) {
    double nearest = INFINITY;
    int64_t index = 0;
    for (int64_t p = 0; p < t->num_panels; p++) {
        const float *panel = t->panels + p * t->dim * PANEL;
        FLOATS sums[VECTORS];
        float scores[PANEL];
        int64_t close[PANEL];
        int count = 0;
        for (int v = 0; v < VECTORS; v++) sums[v] = LOAD(t->bias + p * PANEL + v * WIDTH);
        for (int64_t d = 0; d < t->dim; d++) {
            FLOATS x = SPREAD(centred[d]);
            for (int v = 0; v < VECTORS; v++)
                sums[v] = FMA(x, LOAD(panel + d * PANEL + v * WIDTH), sums[v]);
        }
        for (int v = 0; v < VECTORS; v++) STORE(scores + v * WIDTH, sums[v]);
        for (int j = 0; j < PANEL && p * PANEL + j < t->size; j++)
            if (!(scores[j] < least)) close[count++] = p * PANEL + j; /* so is what is no number */
        LEAVE();
        nearer(t, z, close, count, &nearest, &index);
    }
    return index;
}

/* The indices of ROWS vectors from what was found of each, or their distances where float32 cannot
 * tell: each score is a sum of D + 1 products of numbers that were rounded when they were centred. */
TARGET static void JOIN(decide_, NAME)(const Table *t, const float *z, const float *centred,
                                       const Found *found, int64_t count, int64_t *indices) {
    const int64_t dim = t->dim;
    float scores[ROWS][VECTORS], squares[ROWS] = {0};
    for (int r = 0; r < ROWS; r++)
        for (int v = 0; v < VECTORS; v++)
            scores[r][v] = t->bias[found[r].panel * PANEL + found[r].lane + v * WIDTH];
    for (int64_t d = 0; d < dim; d++) {
        for (int r = 0; r < ROWS; r++) {
            const float *part = t->panels + (found[r].panel * dim + d) * PANEL + found[r].lane;
            float x = centred[r * dim + d];
            squares[r] += x * x;
            for (int v = 0; v < VECTORS; v++) scores[r][v] += x * part[v * WIDTH];
        }
    }
    for (int r = 0; r < ROWS && r < count; r++) {
        float best = -INFINITY, second = found[r].second;
        int64_t index = found[r].panel * PANEL + found[r].lane;
        int winner = 0;
        for (int v = 0; v < VECTORS; v++) {
            float score = scores[r][v];
            if (score > best) {
                if (best > second) second = best;
                best = score, winner = v;
            } else if (score > second)
                second = score;
        }
        /* Only entries count that may be the nearest: see rounding.farthest, and uncertainty. */
        float length = sqrtf(squares[r] + dim * LOST), share = 16 * t->slack;
        float gap = fmaxf(squares[r] - 2 * best, 0) * (1 + share) + squares[r] * share;
        float reach = fminf(t->longest, length + sqrtf(gap));
        float apart = t->slack * reach * (length + reach) + t->least;
        if (!(length + t->longest < LONGEST)) apart = INFINITY;
        indices[r] = index + winner * WIDTH;
        if (!(best - second > apart))
            indices[r] = JOIN(by_distance_, NAME)(t, z + r * dim, centred + r * dim, best - apart);
    }
}

/* Each block of panels against all vectors of a chunk, then the decisions; -1 without memory. */
TARGET static int JOIN(search_, NAME)(const Table *t, const float *z, int64_t num,
                                      int64_t *indices) {
    const int64_t dim = t->dim;
    int64_t in_block = BLOCK_BYTES / (PANEL * dim * (int64_t)sizeof(float));
    if (in_block < 1) in_block = 1;
    float *centred = malloc((size_t)CHUNK * (size_t)dim * sizeof(float));
    if (!centred) return -1;
    for (int64_t start = 0; start < num; start += CHUNK) {
        Found found[CHUNK];
        int64_t count = num - start < CHUNK ? num - start : CHUNK;
        int64_t tiled = (count + ROWS - 1) / ROWS * ROWS; /* the last vector fills the last tile */
        for (int64_t i = 0; i < tiled; i++) {
            const float *vector = z + (start + (i < count ? i : count - 1)) * dim;
            for (int64_t d = 0; d < dim; d++) centred[i * dim + d] = vector[d] - t->center[d];
            found[i] = (Found){-INFINITY, -INFINITY, 0, 0};
        }
        for (int64_t first = 0; first < t->num_panels; first += in_block) {
            int64_t last = first + in_block < t->num_panels ? first + in_block : t->num_panels;
            for (int64_t i = 0; i < tiled; i += ROWS)
                JOIN(tile_, NAME)(t, centred + i * dim, first, last, found + i);
        }
        for (int64_t i = 0; i < count; i += ROWS)
            JOIN(decide_, NAME)(t, z + (start + i) * dim, centred + i * dim, found + i, count - i,
                                indices + start + i);
    }
    free(centred);
    return 0;
}

#undef NAME
#undef TARGET
#undef WIDTH
#undef ROWS
#undef VECTORS
#undef FLOATS
#undef INTS
#undef LOAD
#undef STORE
#undef STORE_INTS
#undef SPREAD
#undef SPREAD_INT
#undef FMA
#undef MAX
#undef MIN
#undef LARGER
#undef IS_LARGER
#undef PICK
#undef LEAVE
