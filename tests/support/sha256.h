/*
 * sha256.h - SHA-256 for comparing with expectations that name values by it. FIPS 180-4.
 */
#ifndef ELOQ_TESTS_SUPPORT_SHA256_H
#define ELOQ_TESTS_SUPPORT_SHA256_H

#include <stddef.h>
#include <stdint.h>

enum { SHA256_HEX_BYTES = 65 };

/* Lower-case hexadecimal digits and a final zero. */
void sha256_hex(const void *bytes, size_t count, char ret_hex[SHA256_HEX_BYTES]);

#endif
