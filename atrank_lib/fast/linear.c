// Linear layers (included by kernels.c).

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
    int64_t n, int64_t in, int64_t layers, const int64_t *out, const float *x, const float **weight, const float **y,
    const int32_t *relu, const float **gy, float *gx, float *sums, int64_t size, int64_t widest, int threads)
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
