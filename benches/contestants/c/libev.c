/* libev 4: one watcher for each connection, turned round while a peer is owed something.
 *
 * The default loop with the library's own choice of a mechanism, on Linux epoll(7), level-triggered; no timers. A watcher
 * that is stopped, changed and started again costs no call unless its direction differs. Reading, writing and what a slow
 * peer is owed are the C floor's, so that what differs from `c-epoll` is libev.
 */
#define _GNU_SOURCE
#include <ev.h>

#define LIBRARY "libev"
#define VERSION version()
static const char *version(void);
#include "echo.h"

static const char *version(void)
{
	static char text[32];
	snprintf(text, sizeof text, "%d.%d", ev_version_major(), ev_version_minor());
	return text;
}

static void turn(struct ev_loop *loop, ev_io *watcher, int events)
{
	ev_io_stop(loop, watcher);
	ev_io_set(watcher, watcher->fd, events);
	ev_io_start(loop, watcher);
}

static void on_ready(struct ev_loop *loop, ev_io *watcher, int events)
{
	int fd = watcher->fd;
	enum next next = events & EV_WRITE ? flush(fd) : echo(fd);
	if (next == CLOSE) {
		ev_io_stop(loop, watcher);
		free(watcher);
		hang_up(fd);
	} else if (events & EV_WRITE) {
		if (next == GO_ON)
			turn(loop, watcher, EV_READ);
	} else if (next == BLOCKED) {
		turn(loop, watcher, EV_WRITE);
	}
}

static void on_connection(struct ev_loop *loop, ev_io *listening, int events)
{
	int fd;
	(void)events;
	while ((fd = accept_one(listening->fd)) >= 0) {
		ev_io *watcher = malloc(sizeof *watcher);
		if (!watcher)
			die("malloc");
		ev_io_init(watcher, on_ready, fd, EV_READ);
		ev_io_start(loop, watcher);
	}
}

int main(int argc, char **argv)
{
	ev_io listening;
	int listener = listen_on(argc, argv);
	struct ev_loop *loop = ev_default_loop(EVFLAG_AUTO);
	if (!loop)
		die("ev_default_loop");
	ev_io_init(&listening, on_connection, listener, EV_READ);
	ev_io_start(loop, &listening);
	ev_run(loop, 0);
	die("ev_run");
}
