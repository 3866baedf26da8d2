/* The one function of bcryptprimitives.dll that Rust's std asks for. wine 8.0 does not have the library, and a program
 * that needs it ends with 53 before its first line. The random bytes come from where wine has them. */
#include <windows.h>

BOOLEAN NTAPI SystemFunction036(PVOID, ULONG); /* RtlGenRandom */

__declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE data, SIZE_T length) {
  return SystemFunction036(data, (ULONG)length);
}
