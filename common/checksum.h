/*
 * checksum.h - XXH3 as pages and manifests use it, and the hash that routes keys.
 *
 * docs/format.md, "Checksums". Any thread.
 */
#ifndef ELOQ_COMMON_CHECKSUM_H
#define ELOQ_COMMON_CHECKSUM_H

#include <stddef.h>
#include <stdint.h>

/* XXH3_64bits, seed 0: page checksums, and (modulo the partition count) the routing of keys. */
uint64_t eloq_checksum_xxh3(const void *bytes, size_t count);

/*
 * The manifest's checksum: XXH3 of each 1 MiB block, mixed into a running number, so that it
 * differs from the plain hash even for one block.
 */
uint64_t eloq_checksum_manifest(const void *bytes, size_t count);

#endif
