/* poll(2): the least an echo server can do with it, and so the floor for mechanisms that scan.
 *
 * The whole state is the array the kernel reads: 8 bytes a connection. The scan learns the slot of each ready
 * descriptor as it goes, so no map from descriptor to slot is kept; it ends at the kernel's count of ready entries,
 * and a closed connection's slot is filled with the last one. What remains is what poll(2) costs: the kernel and this
 * loop both walk over the idle connections in front of the last ready one, in every wait.
 */
#include "echo.h"

#include <poll.h>

int main(int argc, char **argv)
{
	static struct pollfd slots[MAX_DESCRIPTORS]; /* a page of it exists once a connection is in it */
	int listener = listen_on(argc, argv);
	slots[0] = (struct pollfd){ .fd = listener, .events = POLLIN };
	nfds_t used = 1;

	for (;;) {
		int ready = poll(slots, used, -1);
		if (ready < 0) {
			if (errno == EINTR)
				continue;
			die("poll");
		}

		/* Some slot is ready as long as any is left, so the search needs no end. After a removal `slot` stays where
		 * it is: another connection was moved there and may be ready too. */
		struct pollfd *slot = slots + 1;
		for (int left = ready - (slots[0].revents != 0); left > 0; left--) {
			while (!slot->revents)
				slot++;
			switch (slot->events == POLLIN ? echo(slot->fd) : flush(slot->fd)) {
			case GO_ON: (slot++)->events = POLLIN; break;
			case BLOCKED: (slot++)->events = POLLOUT; break;
			case CLOSE:
				hang_up(slot->fd);
				*slot = slots[--used];
				break;
			}
		}

		/* Last, so that no slot without an answer from the kernel is in the scan. */
		if (slots[0].revents) {
			int accepted;
			while ((accepted = accept_one(listener)) >= 0)
				slots[used++] = (struct pollfd){ .fd = accepted, .events = POLLIN };
		}
	}
}
