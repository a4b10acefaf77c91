// Attention of each sample by itself, in every space (included by kernels.c).

#define NOTHING -1e38f // the score of a place that is not there, and below
#define QUERIES 64     // of one sample and space at a time, so that memory grows with the history's length, not its square

// e^x for x <= 0: 2^whole times a polynomial of the rest (Cephes' coefficients); off by 2e-7 at most, relatively.
static inline vec exponential(vec x)
{
    x = pick(x < -87.0f, zero() - 87.0f, x);
    ivec whole = __builtin_convertvector(x * 1.44269504f - 0.5f, ivec); // towards zero: the nearest, for x <= 0
    vec k = __builtin_convertvector(whole, vec);
    vec r = x - k * 0.693359375f + k * 2.12194440e-4f;
    vec p = zero() + 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    return p * (vec)((whole + 127) << 23);
}

// Lanes j and j ^ w change places; w is a constant, so this is one instruction.
#define LANES4(i) x[(i) ^ w], x[(i + 1) ^ w], x[(i + 2) ^ w], x[(i + 3) ^ w]
static inline __attribute__((always_inline)) vec swap(vec x, const int w)
{
#if WIDTH == 16
    return (vec){LANES4(0), LANES4(4), LANES4(8), LANES4(12)};
#elif WIDTH == 8
    return (vec){LANES4(0), LANES4(4)};
#else
    return (vec){LANES4(0)};
#endif
}

static inline float largest(const float *x, int64_t n) // n a multiple of WIDTH
{
    vec top = load(x);
    for (int64_t j = WIDTH; j < n; j += WIDTH)
        top = pick(load(x + j) > top, load(x + j), top);
#pragma GCC unroll 4
    for (int w = WIDTH / 2; w; w /= 2)
        top = pick(swap(top, w) > top, swap(top, w), top);
    return top[0];
}

static inline float total(vec x)
{
#pragma GCC unroll 4
    for (int w = WIDTH / 2; w; w /= 2)
        x += swap(x, w);
    return x[0];
}

// Where a row of a table is that is kept in another order.
static inline int64_t place(const int64_t *order, int64_t row) { return order ? order[row] : row; }

// s columns of `rows` rows of x [*, d], side by side and filled up with zeros to `wide`.
static void take(
    int64_t rows, int64_t first, const int64_t *order, int64_t s, int64_t wide, const float *x, int64_t d, float *to)
{
    for (int64_t i = 0; i < rows; i++) {
        copy(s, x + place(order, first + i) * d, to + i * wide);
        for (int64_t j = s; j < wide; j++)
            to[i * wide + j] = 0;
    }
}

static void give(
    int64_t rows, int64_t first, const int64_t *order, int64_t s, int64_t wide, const float *from, float *x, int64_t d)
{
    for (int64_t i = 0; i < rows; i++)
        copy(s, from + i * wide, x + place(order, first + i) * d);
}

// Rows of `wide` numbers turned into s rows of tp, filled up with zeros behind the first t.
static void turn(int64_t t, int64_t tp, int64_t s, int64_t wide, const float *from, float *to)
{
    for (int64_t c = 0; c < s; c++)
        memset(to + c * tp + t, 0, sizeof(float) * (tp - t));
    transpose(t, s, from, wide, to, tp);
}

// Scores of m queries in one space, [m, tp]; places from t on get -infinity.
static void compare(
    int64_t m, int64_t t, int64_t tp, int64_t s, const float *q, int64_t sp, const float *turned, float *p)
{
    product(m, tp, s, q, sp, 1, turned, tp, p, tp, SET);
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = t; j < tp; j++)
            p[i * tp + j] = -INFINITY;
}

static void scale_by(float scale, int64_t n, float *x) // n a multiple of WIDTH
{
    for (int64_t j = 0; j < n; j += WIDTH)
        store(x + j, load(x + j) * scale);
}

static int64_t longest(int64_t b, const int64_t *at)
{
    int64_t t = 1;
    for (int64_t i = 0; i < b; i++)
        t = at[i + 1] - at[i] > t ? at[i + 1] - at[i] : t;
    return t;
}

// out = softmax(scale Q K^T) V in each of k spaces of s = d / k dimensions, for each of b samples: its queries are rows
// q_offsets[i] to q_offsets[i + 1] of q, its keys and values rows k_offsets[i] to k_offsets[i + 1] of theirs (all
// [*, d]); q_order and k_order say where such a row is if not there. Without keys: zeros. logs [*, k]: the log of each
// query's sum of exponentials.
void attend(
    int64_t b, const int64_t *q_offsets, const int64_t *k_offsets, const int64_t *q_order, const int64_t *k_order,
    int64_t k, int64_t d, float scale, const float *q, const float *keys, const float *values, float *out, float *logs,
    int threads)
{
    const int64_t s = d / k, sp = up(s), most = up(longest(b, k_offsets));
#pragma omp parallel num_threads(threads)
    {
        float *memory = memory_of(most * (s + 2 * sp + QUERIES) + 2 * QUERIES * sp);
        float *turned = memory, *keep = turned + most * s, *v = keep + most * sp, *p = v + most * sp;
        float *mine = p + most * QUERIES, *o = mine + QUERIES * sp, sums[QUERIES];
#pragma omp for schedule(dynamic, 2)
        for (int64_t task = 0; task < b * k; task++) {
            const int64_t i = task / k, h = task % k * s, t = k_offsets[i + 1] - k_offsets[i], tp = up(t);
            take(t, k_offsets[i], k_order, s, sp, keys + h, d, keep);
            take(t, k_offsets[i], k_order, s, sp, values + h, d, v);
            turn(t, tp, s, sp, keep, turned);
            for (int64_t first = q_offsets[i]; first < q_offsets[i + 1]; first += QUERIES) {
                const int64_t m = q_offsets[i + 1] - first < QUERIES ? q_offsets[i + 1] - first : QUERIES;
                take(m, first, q_order, s, sp, q + h, d, mine);
                scale_by(scale, m * sp, mine);
                compare(m, t, tp, s, mine, sp, turned, p);
                for (int64_t r = 0; r < m && t; r++) {
                    float *row = p + r * tp, top = largest(row, tp);
                    vec sum = zero();
                    for (int64_t j = 0; j < tp; j += WIDTH) {
                        vec score = load(row + j), weight = pick(score < NOTHING, zero(), exponential(score - top));
                        store(row + j, weight);
                        sum += weight;
                    }
                    sums[r] = total(sum);
                    logs[(first + r) * k + task % k] = top + logf(sums[r]);
                }
                product(m, sp, t, p, tp, 1, v, sp, o, sp, SET);
                for (int64_t r = 0; r < m && t; r++)
                    scale_by(1 / sums[r], sp, o + r * sp);
                give(m, first, q_order, s, sp, o, out + h, d);
            }
        }
        free(memory);
    }
}

// The gradients of `attend` from that of its result, g [*, d]; the weights are computed anew from `logs`.
void attend_back(
    int64_t b, const int64_t *q_offsets, const int64_t *k_offsets, const int64_t *q_order, const int64_t *k_order,
    int64_t k, int64_t d, float scale, const float *q, const float *keys, const float *values, const float *out,
    const float *logs, const float *g, float *gq, float *gkeys, float *gvalues, int threads)
{
    const int64_t s = d / k, sp = up(s), most = up(longest(b, k_offsets));
#pragma omp parallel num_threads(threads)
    {
        float *memory = memory_of(most * (2 * s + 4 * sp + 2 * QUERIES) + 3 * QUERIES * sp);
        float *kt = memory, *vt = kt + most * s, *keep = vt + most * s, *v = keep + most * sp;
        float *gk = v + most * sp, *gv = gk + most * sp, *p = gv + most * sp, *gp = p + most * QUERIES;
        float *mine = gp + most * QUERIES, *go = mine + QUERIES * sp, *o = go + QUERIES * sp;
#pragma omp for schedule(dynamic, 2)
        for (int64_t task = 0; task < b * k; task++) {
            const int64_t i = task / k, h = task % k * s, t = k_offsets[i + 1] - k_offsets[i], tp = up(t);
            take(t, k_offsets[i], k_order, s, sp, keys + h, d, keep);
            take(t, k_offsets[i], k_order, s, sp, values + h, d, v);
            turn(t, tp, s, sp, keep, kt);
            turn(t, tp, s, sp, v, vt);
            memset(gk, 0, sizeof(float) * t * sp);
            memset(gv, 0, sizeof(float) * t * sp);
            for (int64_t first = q_offsets[i]; first < q_offsets[i + 1]; first += QUERIES) {
                const int64_t m = q_offsets[i + 1] - first < QUERIES ? q_offsets[i + 1] - first : QUERIES;
                take(m, first, q_order, s, sp, q + h, d, mine);
                take(m, first, q_order, s, sp, g + h, d, go);
                take(m, first, q_order, s, sp, out + h, d, o);
                scale_by(scale, m * sp, mine);
                compare(m, t, tp, s, mine, sp, kt, p);
                product(m, tp, s, go, sp, 1, vt, tp, gp, tp, SET);
                for (int64_t r = 0; r < m; r++) {
                    vec both = zero();
                    for (int64_t j = 0; j < sp; j += WIDTH)
                        both += load(go + r * sp + j) * load(o + r * sp + j);
                    const float mean = total(both), log = logs[(first + r) * k + task % k];
                    for (int64_t j = r * tp; j < (r + 1) * tp; j += WIDTH) {
                        vec score = load(p + j), gap = score - log;
                        vec weight = pick(score < NOTHING, zero(), exponential(pick(gap > 0, zero(), gap)));
                        store(p + j, weight);
                        store(gp + j, weight * (load(gp + j) - mean));
                    }
                }
                product(m, sp, t, gp, tp, 1, keep, sp, o, sp, SET);
                scale_by(scale, m * sp, o);
                give(m, first, q_order, s, sp, o, gq + h, d);
                product(t, sp, m, gp, 1, tp, mine, sp, gk, sp, ADD);
                product(t, sp, m, p, 1, tp, go, sp, gv, sp, ADD);
            }
            give(t, k_offsets[i], k_order, s, sp, gk, gkeys + h, d);
            give(t, k_offsets[i], k_order, s, sp, gv, gvalues + h, d);
        }
        free(memory);
    }
}
