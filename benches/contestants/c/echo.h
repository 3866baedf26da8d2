/* One readable socket: one read(2), one write(2), and the unsent rest kept.
 *
 * An idle connection owns nothing here. `owed` is indexed by descriptor and its pages stay untouched until some peer
 * does not read what we write.
 */
#pragma once

#include "start.h"

struct tail {
	size_t sent, length;
	char bytes[];
};

static char buffer[64 * 1024];
static struct tail *owed[MAX_DESCRIPTORS];

enum next { GO_ON, BLOCKED, CLOSE };

/* Keeps what a full socket did not take; out of line, because it hardly ever happens. */
static __attribute__((noinline, cold)) enum next keep(int fd, ssize_t written, size_t length)
{
	if (written < 0) {
		if (errno != EAGAIN)
			return CLOSE;
		written = 0;
	}
	struct tail *tail = malloc(sizeof *tail + (length - written));
	if (!tail)
		return CLOSE;
	tail->sent = 0;
	tail->length = length - written;
	memcpy(tail->bytes, buffer + written, tail->length);
	owed[fd] = tail;
	return BLOCKED;
}

/* BLOCKED: wait for room to write and do not read meanwhile. */
static inline enum next echo(int fd)
{
	ssize_t length = read(fd, buffer, sizeof buffer);
	if (length > 0) {
		ssize_t written = write(fd, buffer, length);
		return written == length ? GO_ON : keep(fd, written, length);
	}
	return length < 0 && errno == EAGAIN ? GO_ON : CLOSE;
}

/* The socket has room again: GO_ON once nothing is owed any more. */
static __attribute__((noinline, cold)) enum next flush(int fd)
{
	struct tail *tail = owed[fd];
	ssize_t written = write(fd, tail->bytes + tail->sent, tail->length - tail->sent);
	if (written < 0)
		return errno == EAGAIN ? BLOCKED : CLOSE;
	tail->sent += written;
	if (tail->sent < tail->length)
		return BLOCKED;
	free(tail);
	owed[fd] = NULL;
	return GO_ON;
}

/* Forgets what was owed and closes. */
static void hang_up(int fd)
{
	if (owed[fd]) {
		free(owed[fd]);
		owed[fd] = NULL;
	}
	close(fd);
}

/* The next connection, or -1 when all that waited are accepted. */
static int accept_one(int listener)
{
	for (;;) {
		int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd >= 0)
			return fd;
		if (errno == EAGAIN)
			return -1;
		if (errno != ECONNABORTED && errno != EINTR)
			die("accept4"); /* EMFILE too: a floor that paused here would measure something else */
	}
}
