/*
 * message_codes.c - the numbers that cross processes, and what they mean on either side.
 *
 * Idea: the tables of message.h and layout.h are the only list; texts and the way from a status to
 * an error come out of them. The way back is written by hand, as many errors of the engine and of
 * the system become one status.
 *
 * Always:   any number has a text; an unknown one came from a newer or broken peer and says so.
 * Runs on:  any thread; nothing is shared.
 */
#include "shm/message.h"

#include "shm/layout.h"

const char *eloq_status_text(unsigned status)
{
	switch (status) {
#define MESSAGE_STATUS_TEXT(name, number, code, text) \
	case number:                                  \
		return text;
		ELOQ_STATUS_MAP(MESSAGE_STATUS_TEXT)
#undef MESSAGE_STATUS_TEXT
	default:
		return "unknown status";
	}
}

int eloq_status_to_error(unsigned status)
{
	switch (status) {
#define MESSAGE_STATUS_ERROR(name, number, code, text) \
	case number:                                   \
		return -(code);
		ELOQ_STATUS_MAP(MESSAGE_STATUS_ERROR)
#undef MESSAGE_STATUS_ERROR
	default:
		return -ELOQ_EPROTOCOL;
	}
}

/* What only the system can say about the daemon's files and memory. */
static enum eloq_status message_status_from_errno(int number)
{
	switch (number) {
	case EINVAL:
		return ELOQ_STATUS_INVALID;
	case ENOSPC:
	case EDQUOT:
		return ELOQ_STATUS_NO_SPACE;
	case ENOMEM:
		return ELOQ_STATUS_NO_MEMORY;
	case EMFILE:
	case ENFILE:
	case EAGAIN:
		return ELOQ_STATUS_TOO_MANY;
	case EROFS:
		return ELOQ_STATUS_READ_ONLY;
	case ETIMEDOUT:
		return ELOQ_STATUS_TIMED_OUT;
	default:
		return ELOQ_STATUS_IO_ERROR;
	}
}

enum eloq_status eloq_status_from_error(int error)
{
	int number = error < 0 ? -error : error;

	switch (number) {
	case 0:
		return ELOQ_STATUS_OK;
	case ELOQ_ENOTFOUND:
		return ELOQ_STATUS_NOT_FOUND;
	case ELOQ_ECORRUPT:
	case ELOQ_EFOREIGN:
		return ELOQ_STATUS_CORRUPT;
	case ELOQ_EUNSUPPORTED:
	case ELOQ_EVERSION:
		return ELOQ_STATUS_UNSUPPORTED;
	case ELOQ_ETOOLONG:
		return ELOQ_STATUS_TOO_LONG;
	case ELOQ_EORDER:
		return ELOQ_STATUS_ORDER;
	case ELOQ_EDENIED:
		return ELOQ_STATUS_DENIED;
	case ELOQ_ETOOMANY:
		return ELOQ_STATUS_TOO_MANY;
	case ELOQ_ESTOPPED:
		return ELOQ_STATUS_STOPPED;
	case ELOQ_EREADONLY:
		return ELOQ_STATUS_READ_ONLY;
	case ELOQ_ECRASHED:
		return ELOQ_STATUS_CRASHED;
	default:
		return message_status_from_errno(number);
	}
}

const char *eloq_op_text(unsigned op)
{
	switch (op) {
#define MESSAGE_OP_TEXT(name, number, changes, text) \
	case number:                                 \
		return text;
		ELOQ_OP_MAP(MESSAGE_OP_TEXT)
#undef MESSAGE_OP_TEXT
	default:
		return "unknown op";
	}
}

bool eloq_op_changes(unsigned op)
{
	switch (op) {
#define MESSAGE_OP_CHANGES(name, number, changes, text) \
	case number:                                    \
		return changes;
		ELOQ_OP_MAP(MESSAGE_OP_CHANGES)
#undef MESSAGE_OP_CHANGES
	default:
		return false;
	}
}

const char *eloq_lane_reason_text(unsigned reason)
{
	switch (reason) {
#define MESSAGE_REASON_TEXT(name, number, text) \
	case number:                            \
		return text;
		ELOQ_LANE_REASON_MAP(MESSAGE_REASON_TEXT)
#undef MESSAGE_REASON_TEXT
	default:
		return "unknown reason";
	}
}
