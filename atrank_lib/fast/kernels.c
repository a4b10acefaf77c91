// Linear layers and attention on packed rows, forwards and backwards, in 32-bit floats (see kernels.py).
//
// Everything rests on one matrix product whose tile of results stays in vector registers. Rows are shared out among
// threads; a thread takes them in blocks that stay in its core's cache. Sums over rows (gradients of weights) are kept
// for each thread apart and added in the order of the threads, so that the same number of threads gives the same bits.

#include "product.c"
#include "linear.c"
#include "attend.c"
#include "rows.c"
