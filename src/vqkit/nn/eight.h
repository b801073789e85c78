/* Eight or sixteen numbers at once, by what GCC and Clang make of it for the processor that they
 * compile for. */

#include <stdint.h>

#define INLINE static inline __attribute__((always_inline))

typedef float Eight __attribute__((vector_size(32), aligned(4), may_alias)); /* anywhere in memory */
typedef int32_t EightInts __attribute__((vector_size(32)));
typedef float Sixteen __attribute__((vector_size(64), aligned(4), may_alias));
enum { LANES = 8 }; /* of Eight */
#define AT(p) (*(Eight *)(p))
#define FROM(p) (*(const Eight *)(p))

/* A body is compiled for some processors, and for any; which one runs is chosen when it does. */
#if defined(__x86_64__)
#define AVX2 __attribute__((target("avx2,fma")))
#define HAS_AVX2 (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
#define AVX512 __attribute__((target("avx512f")))
#define HAS_AVX512 __builtin_cpu_supports("avx512f")
#endif
