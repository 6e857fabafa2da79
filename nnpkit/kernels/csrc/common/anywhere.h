// Functions that are compiled for the processor and for GPUs.

#ifndef NNPKIT_ANYWHERE_H
#define NNPKIT_ANYWHERE_H

#if defined(__CUDACC__)
#define NNPKIT_ANYWHERE __host__ __device__ __forceinline__
#else
#define NNPKIT_ANYWHERE inline __attribute__((always_inline))
#endif

#endif
