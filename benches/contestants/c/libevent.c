/* libevent 2: a persistent event for each direction of a connection, one of them added at a time, as memcached does it.
 *
 * Not bufferevents: those copy every byte twice more, and would measure that. The loop is the library's own choice, on
 * Linux epoll(7), level-triggered; no locks, for there is one thread; no deadline on any event. Reading, writing and what a
 * slow peer is owed are the C floor's, so that what differs from `c-epoll` is libevent.
 */
#define _GNU_SOURCE
#include <event2/event.h>
#include <event2/event_struct.h>

#define LIBRARY "libevent"
#define VERSION event_get_version()
#include "echo.h"

static struct event_base *base;

struct connection {
	struct event readable, writable;
};

static void finish(struct connection *connection, int fd)
{
	/* Before the descriptor is closed, or the kernel would have to tell that it is gone. */
	event_del(&connection->readable);
	event_del(&connection->writable);
	hang_up(fd);
	free(connection);
}

static void turn(struct event *from, struct event *to)
{
	if (event_del(from) < 0 || event_add(to, NULL) < 0)
		die("event_add");
}

static void on_readable(int fd, short what, void *argument)
{
	struct connection *connection = argument;
	(void)what;
	switch (echo(fd)) {
	case GO_ON: break;
	case BLOCKED: turn(&connection->readable, &connection->writable); break;
	case CLOSE: finish(connection, fd); break;
	}
}

static void on_writable(int fd, short what, void *argument)
{
	struct connection *connection = argument;
	(void)what;
	switch (flush(fd)) {
	case GO_ON: turn(&connection->writable, &connection->readable); break;
	case BLOCKED: break;
	case CLOSE: finish(connection, fd); break;
	}
}

static void on_connection(int listener, short what, void *argument)
{
	int fd;
	(void)what, (void)argument;
	while ((fd = accept_one(listener)) >= 0) {
		struct connection *connection = malloc(sizeof *connection);
		if (!connection)
			die("malloc");
		event_assign(&connection->readable, base, fd, EV_READ | EV_PERSIST, on_readable, connection);
		event_assign(&connection->writable, base, fd, EV_WRITE | EV_PERSIST, on_writable, connection);
		if (event_add(&connection->readable, NULL) < 0)
			die("event_add");
	}
}

int main(int argc, char **argv)
{
	struct event accepting;
	int listener = listen_on(argc, argv);
	base = event_base_new();
	if (!base)
		die("event_base_new");
	event_assign(&accepting, base, listener, EV_READ | EV_PERSIST, on_connection, NULL);
	if (event_add(&accepting, NULL) < 0)
		die("event_add");
	event_base_dispatch(base);
	die("event_base_dispatch");
}
