// Vectors as wide as the machine's registers, and the matrix product (included by kernels.c).

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
typedef struct { int add; const float *bias; int relu; } Then;

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

static inline void copy(int64_t n, const float *from, float *to) // a few numbers: too few for memcpy
{
    int64_t j = 0;
    for (; j + WIDTH <= n; j += WIDTH)
        store(to + j, load(from + j));
    for (; j < n; j++)
        to[j] = from[j];
}
