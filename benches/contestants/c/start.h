/* What every server here does before its loop: address, limits, listener, and how it ends. None of it is measured. */
#pragma once

#define _GNU_SOURCE /* accept4 */

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define BACKLOG 4096
#define MAX_DESCRIPTORS (1 << 20) /* Linux's own default for fs.nr_open; tables indexed by descriptor end here */

static _Noreturn void die(const char *what)
{
	perror(what);
	exit(1);
}

static void terminated(int signal)
{
	(void)signal;
	_exit(0);
}

/* Raises the descriptor limit as far as we may and can count. */
static void raise_descriptor_limit(void)
{
	struct rlimit limit;
	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		die("getrlimit");
	limit.rlim_cur = limit.rlim_max < MAX_DESCRIPTORS ? limit.rlim_max : MAX_DESCRIPTORS;
	if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
		die("setrlimit");
}

/* Listens on "A.B.C.D:PORT", port 0 for any, and prints the address bound as the first line. */
static int listen_on(int argc, char **argv)
{
	struct sockaddr_in address = { .sin_family = AF_INET };
	socklen_t length = sizeof address;
	char *colon = argc == 2 ? strchr(argv[1], ':') : NULL;
	if (!colon) {
		fprintf(stderr, "usage: %s 127.0.0.1:PORT\n", argv[0]);
		exit(2);
	}
	*colon = 0;
	address.sin_port = htons(atoi(colon + 1));
	if (!inet_aton(argv[1], &address.sin_addr)) {
		fprintf(stderr, "%s: not an IPv4 address: %s\n", argv[0], argv[1]);
		exit(2);
	}

	int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int on = 1;
	if (listener < 0)
		die("socket");
	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	/* Linux hands this down to every accepted socket, which saves a call per connection. */
	setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	if (bind(listener, (struct sockaddr *)&address, sizeof address) < 0)
		die("bind");
	if (listen(listener, BACKLOG) < 0)
		die("listen");

	raise_descriptor_limit();
	signal(SIGPIPE, SIG_IGN);
	signal(SIGTERM, terminated);
	getsockname(listener, (struct sockaddr *)&address, &length);
	printf("%s:%d\n", inet_ntoa(address.sin_addr), ntohs(address.sin_port));
	fflush(stdout);
	return listener;
}
