/* A closed-loop generator for exact counts: so many requests over so many connections, every byte checked.
 *
 *     load ADDRESS:PORT ACTIVE REQUESTS SIZE           echo: ACTIVE connections, one request outstanding on each
 *     load ADDRESS:PORT ACTIVE REQUESTS SIZE --churn   a new connection for every request, ended by a reset
 *
 * It is not pollmark's generator, on purpose: a figure that both agree on is not the work of either. It always waits
 * by epoll(7), and does as little as the servers it drives, so that it is not the limit. A reset (SO_LINGER 0) leaves
 * no TIME_WAIT behind; the server sees ECONNRESET where it would see the end of the stream, at the same calls.
 */
#include "start.h"

#include <sys/epoll.h>
#include <time.h>

#define MAX_SIZE (64 * 1024)
#define PATTERNS 251 /* prime, so that neighbouring requests and connections differ */

struct connection {
	int fd;
	size_t received;
	unsigned request;
};

static struct sockaddr_in target;
static long requests, started, finished;
static size_t size;
static int epoll;
static char pattern[MAX_SIZE + PATTERNS];

static void open_connection(struct connection *connection)
{
	int on = 1;
	connection->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (connection->fd < 0)
		die("socket");
	setsockopt(connection->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	if (connect(connection->fd, (struct sockaddr *)&target, sizeof target) < 0)
		die("connect");
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = connection };
	if (epoll_ctl(epoll, EPOLL_CTL_ADD, connection->fd, &event) < 0)
		die("epoll_ctl");
}

static void reset_connection(struct connection *connection)
{
	struct linger reset = { .l_onoff = 1, .l_linger = 0 };
	setsockopt(connection->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
	close(connection->fd);
}

/* What this request carries; the answer must equal it. */
static const char *expected(const struct connection *connection)
{
	return pattern + connection->request % PATTERNS;
}

static void send_request(struct connection *connection)
{
	connection->request = started++;
	connection->received = 0;
	if (write(connection->fd, expected(connection), size) != (ssize_t)size)
		die("write");
}

/* Whether the whole answer is there. */
static int receive(struct connection *connection)
{
	char answer[MAX_SIZE];
	ssize_t length = read(connection->fd, answer, size - connection->received);
	if (length < 0)
		die("read");
	if (length == 0) {
		fprintf(stderr, "load: closed by the server at request %ld of %ld\n", finished, requests);
		exit(1);
	}
	if (memcmp(answer, expected(connection) + connection->received, length) != 0) {
		fprintf(stderr, "load: wrong bytes in the answer to request %u\n", connection->request);
		exit(1);
	}
	connection->received += length;
	return connection->received == size;
}

static double seconds(clockid_t clock)
{
	struct timespec now;
	clock_gettime(clock, &now);
	return now.tv_sec + now.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
	int churn = argc == 6 && strcmp(argv[5], "--churn") == 0;
	if (argc != 5 && !churn) {
		fprintf(stderr, "usage: load ADDRESS:PORT ACTIVE REQUESTS SIZE [--churn]\n");
		return 2;
	}
	target = ipv4(argv[1]);
	long active = atol(argv[2]);
	requests = atol(argv[3]);
	size = atol(argv[4]);
	if (active < 1 || requests < active || size < 1 || size > MAX_SIZE) {
		fprintf(stderr, "load: needs 1 <= ACTIVE <= REQUESTS and 1 <= SIZE <= %d\n", MAX_SIZE);
		return 2;
	}
	for (size_t i = 0; i < sizeof pattern; i++)
		pattern[i] = i % PATTERNS;

	raise_descriptor_limit();
	epoll = epoll_create1(EPOLL_CLOEXEC);
	struct connection *connections = calloc(active, sizeof *connections);
	struct epoll_event events[256];
	if (epoll < 0 || !connections)
		die("load");
	for (long i = 0; i < active; i++)
		open_connection(&connections[i]);
	double began = seconds(CLOCK_MONOTONIC);
	for (long i = 0; i < active; i++)
		send_request(&connections[i]);

	while (finished < requests) {
		int ready = epoll_wait(epoll, events, 256, 30 * 1000);
		if (ready < 0)
			die("epoll_wait");
		if (ready == 0) {
			fprintf(stderr, "load: no answer for 30 s at request %ld of %ld\n", finished, requests);
			return 1;
		}
		for (int i = 0; i < ready; i++) {
			struct connection *connection = events[i].data.ptr;
			if (!receive(connection))
				continue;
			finished++;
			if (started == requests)
				continue;
			if (churn) {
				reset_connection(connection);
				open_connection(connection);
			}
			send_request(connection);
		}
	}
	printf("{\"requests\": %ld, \"seconds\": %.6f, \"cpu_seconds\": %.6f}\n", finished,
	       seconds(CLOCK_MONOTONIC) - began, seconds(CLOCK_PROCESS_CPUTIME_ID));
	for (long i = 0; i < active; i++)
		reset_connection(&connections[i]);
	return 0;
}
