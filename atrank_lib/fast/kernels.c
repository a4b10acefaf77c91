// Linear layers and attention on packed rows, forwards and backwards, in 32-bit floats (see kernels.py).
//
// Everything rests on one matrix product whose tile of results stays in vector registers. Rows are shared out among
// threads; a thread takes them in blocks that stay in its core's cache. Sums over rows (gradients of weights) are kept
// for each thread apart and added in the order of the threads, so that the same number of threads gives the same bits.

#include <math.h>
#include <omp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__AVX512F__)
#define WIDTH 16  // floats in a vector register
#define ROWS 12   // of a tile of two registers' width: 24 of 32 registers hold results
#elif defined(__AVX2__)
#define WIDTH 8
#define ROWS 6
#else
#define WIDTH 4
#define ROWS 6
#endif
#define BLOCK 192      // rows that a thread takes at a time
#define NOTHING -1e38f // the score of a place that is not there, and below
#define QUERIES 64     // of one sample and space at a time, so that memory grows with the history's length, not its square

typedef float vec __attribute__((vector_size(4 * WIDTH), aligned(4), may_alias));
typedef int32_t ivec __attribute__((vector_size(4 * WIDTH), aligned(4), may_alias));

static inline vec load(const float *p) { return *(const vec *)p; }
static inline void store(float *p, vec x) { *(vec *)p = x; }
static inline vec zero(void) { return (vec){0}; }
static inline vec pick(ivec which, vec yes, vec no) { return (vec)((which & (ivec)yes) | (~which & (ivec)no)); }
static float *memory_of(int64_t floats) { return aligned_alloc(64, (4 * floats + 127) / 64 * 64); }
static inline int64_t up(int64_t n) { return (n + WIDTH - 1) / WIDTH * WIDTH; }
int64_t width(void) { return WIDTH; }

// What becomes of a product: C = A B, or C += A B, or C = A B + bias, or relu of that.
typedef struct {
    int add;
    const float *bias;
    int relu;
} Then;

// `rows` rows and `cols` vectors of C; A has the element (i, k) at a[i * ai + k * ak], rows of B and C lie ldb and ldc
// apart.
static inline __attribute__((always_inline)) void tile(
    const int rows, const int cols, int64_t inner, const float *a, int64_t ai, int64_t ak, const float *b, int64_t ldb,
    float *c, int64_t ldc, Then then, int64_t column)
{
    vec sum[ROWS][2];
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < cols; j++)
            sum[i][j] = then.bias ? load(then.bias + column + j * WIDTH) : zero();
    for (int64_t k = 0; k < inner; k++) {
        vec row[2];
        for (int j = 0; j < cols; j++)
            row[j] = load(b + k * ldb + j * WIDTH);
#pragma GCC unroll 12
        for (int i = 0; i < rows; i++) {
            float x = a[i * ai + k * ak];
            for (int j = 0; j < cols; j++)
                sum[i][j] += x * row[j];
        }
    }
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < cols; j++) {
            float *to = c + i * ldc + j * WIDTH;
            vec x = sum[i][j];
            if (then.add)
                x += load(to);
            if (then.relu)
                x = pick(x < 0, zero(), x);
            store(to, x);
        }
}

#define TILE(rows, cols) tile(rows, cols, inner, a + i * ai, ai, ak, b + j, ldb, c + i * ldc + j, ldc, then, j)
#define REST(rows, cols) case rows: TILE(rows, cols); break;
#define PANEL(cols)                                                                                                  \
    for (i = 0; i + ROWS <= m; i += ROWS)                                                                            \
        TILE(ROWS, cols);                                                                                            \
    switch (m - i) {                                                                                                 \
        REST(1, cols) REST(2, cols) REST(3, cols) REST(4, cols) REST(5, cols)                                        \
        PANEL_MORE(cols)                                                                                             \
    }
#if ROWS > 6
#define PANEL_MORE(cols) REST(6, cols) REST(7, cols) REST(8, cols) REST(9, cols) REST(10, cols) REST(11, cols)
#else
#define PANEL_MORE(cols)
#endif

// C[m, n] from A[m, inner] B[inner, n]; n is a multiple of WIDTH.
static void product(
    int64_t m, int64_t n, int64_t inner, const float *a, int64_t ai, int64_t ak, const float *b, int64_t ldb,
    float *c, int64_t ldc, Then then)
{
    int64_t i, j = 0;
    for (; j + 2 * WIDTH <= n; j += 2 * WIDTH) {
        PANEL(2)
    }
    if (j < n) {
        PANEL(1)
    }
}

static const Then SET = {0, NULL, 0}, ADD = {1, NULL, 0};

// to[j, i] = from[i, j], for `rows` rows of `cols` numbers; rows of `to` lie `ldt` apart.
static void transpose(int64_t rows, int64_t cols, const float *from, int64_t ldf, float *to, int64_t ldt)
{
    for (int64_t i0 = 0; i0 < rows; i0 += 16)
        for (int64_t j = 0; j < cols; j++)
            for (int64_t i = i0; i < i0 + 16 && i < rows; i++)
                to[j * ldt + i] = from[i * ldf + j];
}

static void share(int64_t n, int64_t step, int part, int parts, int64_t *first, int64_t *end)
{
    int64_t each = ((n + step - 1) / step + parts - 1) / parts * step;
    *first = part * each < n ? part * each : n;
    *end = *first + each < n ? *first + each : n;
}

// y_l = x W_l^T + bias_l, with a relu where relu_l: x [n, in], W_l [out_l, in], y_l [n, out_l].
// `turned` holds the transposed weights, one after the other.
void linear(
    int64_t n, int64_t in, int64_t layers, const int64_t *out, const float *x, const float **weight,
    const float **bias, const int32_t *relu, float **y, float *turned, int threads)
{
#pragma omp parallel num_threads(threads)
    {
        float *to = turned;
        for (int64_t l = 0; l < layers; l++) {
            int64_t first, end;
            share(out[l], 16, omp_get_thread_num(), omp_get_num_threads(), &first, &end);
            transpose(end - first, in, weight[l] + first * in, in, to + first, out[l]);
            to += in * out[l];
        }
#pragma omp barrier
        int64_t first, end;
        share(n, ROWS, omp_get_thread_num(), omp_get_num_threads(), &first, &end);
        for (int64_t i = first; i < end; i += BLOCK) {
            int64_t m = end - i < BLOCK ? end - i : BLOCK;
            const float *b = turned;
            for (int64_t l = 0; l < layers; l++) {
                Then then = {0, bias[l], relu[l]};
                product(m, out[l], in, x + i * in, in, 1, b, out[l], y[l] + i * out[l], out[l], then);
                b += in * out[l];
            }
        }
    }
}

// The gradients of `linear` from those of its outputs, gy_l. `sums` holds `size` floats for every thread, where
// size = sum over l of out_l * (in + 1); afterwards its first part holds, for each l, gW_l [out_l, in] and gbias_l.
// gx is NULL where nobody asks for it.
void linear_back(
    int64_t n, int64_t in, int64_t layers, const int64_t *out, const float *x, const float **weight,
    const float **y, const int32_t *relu, const float **gy, float *gx, float *sums, int64_t size, int64_t widest,
    int threads)
{
#pragma omp parallel num_threads(threads)
    {
        float *mine = sums + omp_get_thread_num() * size, *g = memory_of(BLOCK * widest);
        memset(mine, 0, sizeof(float) * size);
        int64_t first, end;
        share(n, ROWS, omp_get_thread_num(), omp_get_num_threads(), &first, &end);
        for (int64_t i = first; i < end; i += BLOCK) {
            int64_t m = end - i < BLOCK ? end - i : BLOCK;
            float *sum = mine;
            for (int64_t l = 0; l < layers; l++) {
                const int64_t o = out[l];
                float *bias = sum + o * in;
                for (int64_t r = 0; r < m; r++)
                    for (int64_t j = 0; j < o; j += WIDTH) {
                        vec grad = load(gy[l] + (i + r) * o + j);
                        if (relu[l])
                            grad = pick(load(y[l] + (i + r) * o + j) > 0, grad, zero());
                        store(g + r * o + j, grad);
                        store(bias + j, load(bias + j) + grad);
                    }
                product(o, in, m, g, 1, o, x + i * in, in, sum, in, ADD);
                if (gx)
                    product(m, in, o, g, o, 1, weight[l], in, gx + i * in, in, l ? ADD : SET);
                sum += o * (in + 1);
            }
        }
        free(g);
#pragma omp barrier
        share(size, WIDTH, omp_get_thread_num(), omp_get_num_threads(), &first, &end);
        for (int part = 1; part < omp_get_num_threads(); part++)
            for (int64_t j = first; j < end; j++)
                sums[j] += sums[part * size + j];
    }
}

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

static inline void copy(int64_t n, const float *from, float *to) // a few numbers: too few for memcpy
{
    int64_t j = 0;
    for (; j + WIDTH <= n; j += WIDTH)
        store(to + j, load(from + j));
    for (; j < n; j++)
        to[j] = from[j];
}

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

// out = softmax(scale Q K^T) V in each of k spaces of s = d / k dimensions, for each of b samples: it asks with rows
// asked[i] to asked[i + 1] of q, and is told by rows told[i] to told[i + 1] of keys and values (all [*, d]); `asks` and
// `tells` say where such a row is if not there. Nothing told: zeros. logs [*, k]: log of a row's sum of exponentials.
void attend(
    int64_t b, const int64_t *asked, const int64_t *told, const int64_t *asks, const int64_t *tells, int64_t k,
    int64_t d, float scale, const float *q, const float *keys, const float *values, float *out, float *logs,
    int threads)
{
    const int64_t s = d / k, sp = up(s), most = up(longest(b, told));
#pragma omp parallel num_threads(threads)
    {
        float *memory = memory_of(most * (s + 2 * sp + QUERIES) + 2 * QUERIES * sp);
        float *turned = memory, *keep = turned + most * s, *v = keep + most * sp, *p = v + most * sp;
        float *mine = p + most * QUERIES, *o = mine + QUERIES * sp, sums[QUERIES];
#pragma omp for schedule(dynamic, 2)
        for (int64_t task = 0; task < b * k; task++) {
            const int64_t i = task / k, h = task % k * s, t = told[i + 1] - told[i], tp = up(t);
            take(t, told[i], tells, s, sp, keys + h, d, keep);
            take(t, told[i], tells, s, sp, values + h, d, v);
            turn(t, tp, s, sp, keep, turned);
            for (int64_t first = asked[i]; first < asked[i + 1]; first += QUERIES) {
                const int64_t m = asked[i + 1] - first < QUERIES ? asked[i + 1] - first : QUERIES;
                take(m, first, asks, s, sp, q + h, d, mine);
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
                give(m, first, asks, s, sp, o, out + h, d);
            }
        }
        free(memory);
    }
}

// The gradients of `attend` from that of its result, g [*, d]; the weights are computed anew from `logs`.
void attend_back(
    int64_t b, const int64_t *asked, const int64_t *told, const int64_t *asks, const int64_t *tells, int64_t k,
    int64_t d, float scale, const float *q, const float *keys, const float *values, const float *out,
    const float *logs, const float *g, float *gq, float *gkeys, float *gvalues, int threads)
{
    const int64_t s = d / k, sp = up(s), most = up(longest(b, told));
#pragma omp parallel num_threads(threads)
    {
        float *memory = memory_of(most * (2 * s + 4 * sp + 2 * QUERIES) + 3 * QUERIES * sp);
        float *kt = memory, *vt = kt + most * s, *keep = vt + most * s, *v = keep + most * sp;
        float *gk = v + most * sp, *gv = gk + most * sp, *p = gv + most * sp, *gp = p + most * QUERIES;
        float *mine = gp + most * QUERIES, *go = mine + QUERIES * sp, *o = go + QUERIES * sp;
#pragma omp for schedule(dynamic, 2)
        for (int64_t task = 0; task < b * k; task++) {
            const int64_t i = task / k, h = task % k * s, t = told[i + 1] - told[i], tp = up(t);
            take(t, told[i], tells, s, sp, keys + h, d, keep);
            take(t, told[i], tells, s, sp, values + h, d, v);
            turn(t, tp, s, sp, keep, kt);
            turn(t, tp, s, sp, v, vt);
            memset(gk, 0, sizeof(float) * t * sp);
            memset(gv, 0, sizeof(float) * t * sp);
            for (int64_t first = asked[i]; first < asked[i + 1]; first += QUERIES) {
                const int64_t m = asked[i + 1] - first < QUERIES ? asked[i + 1] - first : QUERIES;
                take(m, first, asks, s, sp, q + h, d, mine);
                take(m, first, asks, s, sp, g + h, d, go);
                take(m, first, asks, s, sp, out + h, d, o);
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
                give(m, first, asks, s, sp, o, gq + h, d);
                product(t, sp, m, gp, 1, tp, mine, sp, gk, sp, ADD);
                product(t, sp, m, p, 1, tp, go, sp, gv, sp, ADD);
            }
            give(t, told[i], tells, s, sp, gk, gkeys + h, d);
            give(t, told[i], tells, s, sp, gv, gvalues + h, d);
        }
        free(memory);
    }
}

// Row i of out [n, width] from row index_l[i] of every table: set in columns first_l to first_l + dim_l, or added.
// Returns how many indices point nowhere; their rows are left as they are.
int64_t look_up(
    int64_t n, int64_t width, int64_t tables, const float **table, const int64_t *rows, const int64_t **index,
    const int64_t *first, const int64_t *dim, const int32_t *added, float *out, int threads)
{
    int64_t lost = 0;
#pragma omp parallel for num_threads(threads) reduction(+ : lost)
    for (int64_t i = 0; i < n; i++)
        for (int64_t l = 0; l < tables; l++) {
            const int64_t row = index[l][i];
            if (row < 0 || row >= rows[l]) {
                lost++;
                continue;
            }
            const float *from = table[l] + row * dim[l];
            float *to = out + i * width + first[l];
            for (int64_t j = 0; j < dim[l]; j += WIDTH) {
                vec x = load(from + j);
                if (added[l])
                    x += load(to + j);
                store(to + j, x);
            }
        }
    return lost;
}

// The gradients of the tables, which hold zeros, from g [n, width]. A thread takes columns, so that no two meet.
void look_up_back(
    int64_t n, int64_t width, int64_t tables, const int64_t **index, const int64_t *first, const int64_t *dim,
    const float *g, float **table, int threads)
{
#pragma omp parallel num_threads(threads)
    for (int64_t l = 0; l < tables; l++)
#pragma omp for schedule(static) nowait
        for (int64_t j = 0; j < dim[l]; j += WIDTH)
            for (int64_t i = 0; i < n; i++) {
                float *to = table[l] + index[l][i] * dim[l] + j;
                store(to, load(to) + load(g + i * width + first[l] + j));
            }
}

// Rows of a table, of Adam's moments and of the average (`rows` says which; NULL: none is kept), as if every step until
// now had moved them all. `due` [n, 6 or 11] has for each row: fades of m and v, the rule of what the weight is owed (two
// points, a factor after each), and with an average the share of itself that it keeps and its rule. See row_updates.py.
void pay(
    int64_t n, int64_t dim, const int64_t *rows, const float *due, float eps, const float *weight, const float *m,
    const float *v, const float *average, float *now, float *now_m, float *now_v, float *now_average, int threads)
{
    const int64_t columns = average ? 11 : 6;
#pragma omp parallel for num_threads(threads)
    for (int64_t i = 0; i < n; i++) {
        const float *d = due + i * columns;
        for (int64_t j = 0; j < dim; j += WIDTH) {
            const int64_t from = rows[i] * dim + j, to = i * dim + j;
            const vec w = load(weight + from), first = load(m + from), second = load(v + from);
            vec root = second;
            for (int lane = 0; lane < WIDTH; lane++)
                root[lane] = sqrtf(second[lane]);
            store(now + to, w - first * (d[3] / (root + eps * d[2]) + d[5] / (root + eps * d[4])));
            store(now_m + to, first * d[0]);
            store(now_v + to, second * d[1]);
            if (average)
                store(
                    now_average + to, w + (load(average + from) - w) * d[6]
                        - first * (d[8] / (root + eps * d[7]) + d[10] / (root + eps * d[9])));
        }
    }
}

// Rows back to where they came from, in `tables` tables.
void put(
    int64_t n, int64_t dim, const int64_t *rows, int64_t tables, float **table, const float **values, int threads)
{
#pragma omp parallel for num_threads(threads)
    for (int64_t i = 0; i < n; i++)
        for (int64_t l = 0; l < tables; l++)
            copy(dim, values[l] + i * dim, table[l] + rows[i] * dim);
}
