// Rows of tables: looked up, and brought up to date (included by kernels.c).

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

// What a rule of two points says, d = {point, factor, point, factor}.
static inline vec rule(const float *d, vec r, float eps) { return d[1] / (r + eps * d[0]) + d[3] / (r + eps * d[2]); }

// Rows of a table, of Adam's moments and of the average (`rows` says which; NULL: none is kept), as if every step until
// now had moved them all. `missed` [n, 6 or 11] has for each row: fades of m and v, the rule of what the weight has
// missed, and with an average the share of itself that it keeps and its rule. See row_updates.py.
void catch_up(
    int64_t n, int64_t dim, const int64_t *rows, const float *missed, float eps, const float *weight, const float *m,
    const float *v, const float *average, float *now, float *now_m, float *now_v, float *now_average, int threads)
{
    const int64_t columns = average ? 11 : 6;
#pragma omp parallel for num_threads(threads)
    for (int64_t i = 0; i < n; i++) {
        const float *d = missed + i * columns;
        for (int64_t j = 0; j < dim; j += WIDTH) {
            const int64_t from = rows[i] * dim + j, to = i * dim + j;
            const vec w = load(weight + from), first = load(m + from), second = load(v + from);
            vec root = second;
            for (int lane = 0; lane < WIDTH; lane++)
                root[lane] = sqrtf(second[lane]);
            store(now + to, w - first * rule(d + 2, root, eps));
            store(now_m + to, first * d[0]);
            store(now_v + to, second * d[1]);
            if (average)
                store(now_average + to, w + (load(average + from) - w) * d[6] - first * rule(d + 7, root, eps));
        }
    }
}

// Rows back to where they came from, in `tables` tables.
void write_rows(
    int64_t n, int64_t dim, const int64_t *rows, int64_t tables, float **table, const float **values, int threads)
{
#pragma omp parallel for num_threads(threads)
    for (int64_t i = 0; i < n; i++)
        for (int64_t l = 0; l < tables; l++)
            copy(dim, values[l] + i * dim, table[l] + rows[i] * dim);
}
