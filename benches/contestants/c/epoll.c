/* epoll(7), level-triggered: the least an echo server on Linux can do, and so the floor the others are measured by.
 *
 * Per event one read(2) and one write(2), per connection one accept4(2), one EPOLL_CTL_ADD and one close(2): nothing
 * is re-armed, no read is made only to hear EAGAIN, and close(2) takes the descriptor out of the epoll set by itself.
 * There is no table of connections, no limit, no deadline and no protocol; a server that has those pays for them on
 * top of this.
 */
#include "echo.h"

#include <sys/epoll.h>

#define BATCH 512 /* 8 events a call are within 1 % of this; fewer cost more */

static void watch(int epoll, int operation, int fd, uint32_t events)
{
	struct epoll_event event = { .events = events, .data.fd = fd };
	if (epoll_ctl(epoll, operation, fd, &event) < 0)
		die("epoll_ctl");
}

int main(int argc, char **argv)
{
	static struct epoll_event events[BATCH];
	int listener = listen_on(argc, argv);
	int epoll = epoll_create1(EPOLL_CLOEXEC);
	if (epoll < 0)
		die("epoll_create1");
	watch(epoll, EPOLL_CTL_ADD, listener, EPOLLIN);

	for (;;) {
		int ready = epoll_wait(epoll, events, BATCH, -1);
		if (ready < 0 && errno != EINTR)
			die("epoll_wait");

		for (int i = 0; i < ready; i++) {
			int fd = events[i].data.fd;
			if (fd == listener) {
				int accepted;
				while ((accepted = accept_one(listener)) >= 0)
					watch(epoll, EPOLL_CTL_ADD, accepted, EPOLLIN);
			} else if (!owed[fd]) {
				switch (echo(fd)) {
				case GO_ON: break;
				case BLOCKED: watch(epoll, EPOLL_CTL_MOD, fd, EPOLLOUT); break;
				case CLOSE: hang_up(fd); break;
				}
			} else {
				switch (flush(fd)) {
				case GO_ON: watch(epoll, EPOLL_CTL_MOD, fd, EPOLLIN); break;
				case BLOCKED: break;
				case CLOSE: hang_up(fd); break;
				}
			}
		}
	}
}
