/* In the image, what NumPy has in place of OpenBLAS, which was a fifth of it: audits compute with integers.
   NumPy tries one function when it is imported; the others, which the Dockerfile lists by name, end the process. */
#include <stdio.h>
#include <stdlib.h>

float scipy_cblas_sdot64_(long n, const float *x, long step_x, const float *y, long step_y) {
    float sum = 0;
    for (; n > 0; n--, x += step_x, y += step_y) sum += *x * *y;
    return sum;
}

#define ABSENT(name)                                                                               \
    void name(void) {                                                                              \
        fputs(#name ": this image has no linear algebra (config/deployment/blas.c)\n", stderr);    \
        abort();                                                                                   \
    }
#include "absent.h"
