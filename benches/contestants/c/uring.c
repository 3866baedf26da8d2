/* io_uring(7): the least a completion server can do, and so the floor for ours.
 *
 * One multishot accept, one multishot receive per connection into buffers shared by all of them, and each buffer sent
 * as it was filled; the kernel has it back when the send is through. What a turn asks for goes along with the wait for
 * the next, so that there is one call per turn. A connection has one send under way, the buffers behind it in a chain,
 * and no receive while the chain is long. There is no limit, no deadline and no protocol, as in the others.
 */
#include "start.h"

#include <fcntl.h>
#include <liburing.h>

#define SUBMISSIONS 1024
#define COMPLETIONS 8192
#define BUFFERS 2048 /* a power of two */
#define BUFFER_SIZE 4096
#define LONG_CHAIN 16 /* buffers, of one connection */

enum operation { ACCEPT, RECEIVE, SEND, QUIET };

/* All of an idle connection; `connections` is indexed by descriptor. */
struct connection {
	uint16_t first, last, chained; /* first is being sent */
	uint8_t receiving, ended;
};

static struct io_uring ring;
static struct io_uring_buf_ring *free_buffers;
static int freed;      /* in this turn */
static uint16_t taken; /* ever, as the tail of `free_buffers` counts those given back */
static char *memory;
static struct connection connections[MAX_DESCRIPTORS];
static struct { uint16_t next, length; } buffers[BUFFERS];
static int starved[MAX_DESCRIPTORS], starving; /* connections without a receive because no buffer was free */

static struct io_uring_sqe *submission(void)
{
	struct io_uring_sqe *sqe;
	while (!(sqe = io_uring_get_sqe(&ring))) {
		int submitted = io_uring_submit(&ring);
		if (submitted < 0 && submitted != -EINTR)
			errno = -submitted, die("io_uring_submit");
	}
	return sqe;
}

/* What a completion will say of itself. */
static uint64_t name(enum operation operation, int fd)
{
	return (uint64_t)fd << 32 | operation;
}

static void accept_all(int listener)
{
	struct io_uring_sqe *sqe = submission();
	io_uring_prep_multishot_accept(sqe, listener, NULL, NULL, SOCK_CLOEXEC);
	io_uring_sqe_set_data64(sqe, name(ACCEPT, listener));
}

static void receive(int fd)
{
	struct io_uring_sqe *sqe = submission();
	io_uring_prep_recv_multishot(sqe, fd, NULL, 0, 0);
	io_uring_sqe_set_flags(sqe, IOSQE_BUFFER_SELECT);
	sqe->buf_group = 0;
	io_uring_sqe_set_data64(sqe, name(RECEIVE, fd));
	connections[fd].receiving = 1;
}

/* MSG_WAITALL: the kernel waits for room by itself, and anything less than all means that the connection is broken. */
static inline void send_buffer(int fd, unsigned buffer)
{
	struct io_uring_sqe *sqe = submission();
	io_uring_prep_send(sqe, fd, memory + buffer * BUFFER_SIZE, buffers[buffer].length, MSG_WAITALL);
	io_uring_sqe_set_data64(sqe, name(SEND, fd));
}

static void stop_receiving(int fd)
{
	struct io_uring_sqe *sqe = submission();
	io_uring_prep_cancel64(sqe, name(RECEIVE, fd), 0);
	io_uring_sqe_set_flags(sqe, IOSQE_CQE_SKIP_SUCCESS);
	io_uring_sqe_set_data64(sqe, name(QUIET, fd));
}

/* Nothing of it is under way any more. */
static void hang_up(int fd)
{
	struct io_uring_sqe *sqe = submission();
	io_uring_prep_close(sqe, fd);
	io_uring_sqe_set_flags(sqe, IOSQE_CQE_SKIP_SUCCESS);
	io_uring_sqe_set_data64(sqe, name(QUIET, fd));
	connections[fd] = (struct connection){ 0 };
}

/* The kernel gets it with the others of this turn. */
static inline void give_back(unsigned buffer)
{
	io_uring_buf_ring_add(free_buffers, memory + buffer * BUFFER_SIZE, BUFFER_SIZE, buffer, BUFFERS - 1, freed++);
}

/* The receive brought something else than bytes to send, or ended, or the chain is long. */
static __attribute__((noinline, cold)) void not_just_bytes(int fd, int result)
{
	struct connection *connection = &connections[fd];
	if (result == 0 || (result < 0 && result != -ENOBUFS && result != -ECANCELED))
		connection->ended = 1;
	if (connection->receiving) {
		if (connection->ended || connection->chained >= LONG_CHAIN)
			stop_receiving(fd); /* once more for every completion until it has stopped */
	} else if (!connection->chained) {
		if (connection->ended)
			hang_up(fd);
		else if (result == -ENOBUFS)
			starved[starving++] = fd;
		else
			receive(fd);
	} /* else the last send goes on from here */
}

static inline void received(int fd, int result, unsigned flags)
{
	struct connection *connection = &connections[fd];
	unsigned buffer = flags >> IORING_CQE_BUFFER_SHIFT;
	taken += flags & IORING_CQE_F_BUFFER; /* which is 1 */
	if (result > 0 && !connection->ended) {
		buffers[buffer].length = result;
		if (connection->chained++) {
			buffers[connection->last].next = buffer;
		} else {
			connection->first = buffer;
			send_buffer(fd, buffer);
		}
		connection->last = buffer;
	} else if (flags & IORING_CQE_F_BUFFER) {
		give_back(buffer);
	}
	connection->receiving = (flags & IORING_CQE_F_MORE) != 0;
	if (!connection->receiving || connection->ended || connection->chained >= LONG_CHAIN)
		not_just_bytes(fd, result);
}

/* Nobody takes what is chained any more. */
static __attribute__((noinline, cold)) void broken(int fd)
{
	struct connection *connection = &connections[fd];
	for (; connection->chained; connection->chained--) {
		give_back(connection->first);
		connection->first = buffers[connection->first].next;
	}
	connection->ended = 1;
	if (connection->receiving)
		stop_receiving(fd);
	else
		hang_up(fd);
}

static inline void sent(int fd, int result)
{
	struct connection *connection = &connections[fd];
	unsigned buffer = connection->first;
	if (result != buffers[buffer].length) {
		broken(fd);
		return;
	}
	give_back(buffer);
	if (--connection->chained) {
		connection->first = buffers[buffer].next;
		send_buffer(fd, connection->first);
	} else if (!connection->receiving) {
		if (connection->ended)
			hang_up(fd);
		else
			receive(fd);
	}
}

static void accepted(int listener, int result, unsigned flags)
{
	if (result >= 0)
		receive(result);
	else if (result != -ECONNABORTED)
		errno = -result, die("accept"); /* EMFILE too: a floor that paused here would measure something else */
	if (!(flags & IORING_CQE_F_MORE))
		accept_all(listener);
}

/* Completions are made in our own calls where the kernel can, else without interrupting us. */
static void open_ring(void)
{
	static const unsigned ways[] = { IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN, IORING_SETUP_COOP_TASKRUN };
	int opened = -EINVAL;
	for (unsigned i = 0; i < sizeof ways / sizeof *ways && opened == -EINVAL; i++) {
		struct io_uring_params params = { .flags = IORING_SETUP_CQSIZE | ways[i], .cq_entries = COMPLETIONS };
		opened = io_uring_queue_init_params(SUBMISSIONS, &ring, &params);
	}
	if (opened < 0)
		errno = -opened, die("io_uring_queue_init_params");
	io_uring_register_ring_fd(&ring); /* saves a look into the table of descriptors; it goes without */
}

static void share_buffers(void)
{
	if (posix_memalign((void **)&free_buffers, 4096, BUFFERS * sizeof(struct io_uring_buf)) ||
	    posix_memalign((void **)&memory, 4096, BUFFERS * BUFFER_SIZE))
		die("posix_memalign");
	struct io_uring_buf_reg group = { .ring_addr = (uintptr_t)free_buffers, .ring_entries = BUFFERS, .bgid = 0 };
	int registered = io_uring_register_buf_ring(&ring, &group, 0);
	if (registered < 0)
		errno = -registered, die("io_uring_register_buf_ring");
	io_uring_buf_ring_init(free_buffers);
	for (int buffer = 0; buffer < BUFFERS; buffer++)
		give_back(buffer);
}

int main(int argc, char **argv)
{
	int listener = listen_on(argc, argv);
	fcntl(listener, F_SETFL, 0); /* of what is O_NONBLOCK, io_uring says EAGAIN where we want it to wait */
	open_ring();
	share_buffers();
	accept_all(listener);

	for (;;) {
		io_uring_buf_ring_advance(free_buffers, freed);
		freed = 0;
		while (starving && free_buffers->tail != taken)
			receive(starved[--starving]);
		int submitted = io_uring_submit_and_wait(&ring, 1);
		if (submitted < 0 && submitted != -EINTR)
			errno = -submitted, die("io_uring_submit_and_wait");

		struct io_uring_cqe *cqe;
		unsigned head, seen = 0;
		io_uring_for_each_cqe(&ring, head, cqe) {
			int fd = cqe->user_data >> 32;
			seen++;
			switch ((enum operation)(cqe->user_data & 3)) {
			case RECEIVE: received(fd, cqe->res, cqe->flags); break;
			case SEND: sent(fd, cqe->res); break;
			case ACCEPT: accepted(fd, cqe->res, cqe->flags); break;
			case QUIET: break; /* what was to be cancelled had ended, or it will be cancelled again */
			}
		}
		io_uring_cq_advance(&ring, seen);
	}
}
