/*
 * store_file_fuzz.c - STORE from anywhere: decoding never reads past its bytes, and what it
 * accepts it can write again.
 *
 * The checksum is put right first: random bytes would never get past it.
 */
#include "common/checksum.h"
#include "common/coding.h"
#include "daemon/supervisor/store_file.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void frame(uint8_t *bytes, size_t count)
{
	/* NOLINTNEXTLINE(bugprone-not-null-terminated-result): a magic is no string */
	memcpy(bytes, "ELOQSTOR", 8);
	eloq_put_u32(bytes + 8, ELOQ_STORE_FILE_VERSION);
	eloq_put_u32(bytes + 12, (uint32_t)count);
	eloq_put_u64(bytes + count - 8, eloq_checksum_xxh3(bytes, count - 8));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct eloq_store_file store;
	struct eloq_errinfo error;
	uint8_t *bytes = malloc(size + 1), *again;
	size_t again_count;

	if (!bytes)
		return 0;
	memcpy(bytes, data, size);
	if (size >= 24)
		frame(bytes, size);
	if (eloq_store_file_decode(bytes, size, &store, &error) == 0) {
		if (eloq_store_file_encode(&store, &again, &again_count) == 0) {
			eloq_assert(again_count == size);
			free(again);
		}
		eloq_store_file_free(&store);
	}
	free(bytes);
	return 0;
}
