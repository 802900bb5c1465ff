/* What protobuf's conformance runner, as npm carries it, wants of glibc 2.38 and libstdc++ 13, and Debian 12 does not have:
 * C23's names of four functions that C17 has too, and the order in which iostreams begin. Preloaded, with those two versions
 * marked as weak by weaken.py. */
#include <stdlib.h>

long __isoc23_strtol(const char *text, char **end, int base) { return strtol(text, end, base); }
unsigned long __isoc23_strtoul(const char *text, char **end, int base) { return strtoul(text, end, base); }
long long __isoc23_strtoll(const char *text, char **end, int base) { return strtoll(text, end, base); }
unsigned long long __isoc23_strtoull(const char *text, char **end, int base) { return strtoull(text, end, base); }
void _ZSt21ios_base_library_initv(void) {}
