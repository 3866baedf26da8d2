/* What comes before the loop of every C program here: address, limits, listener, and how it ends. None of it is
 * measured. */
#pragma once

#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* accept4 */
#endif

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

/* "A.B.C.D:PORT" */
static struct sockaddr_in ipv4(char *text)
{
	struct sockaddr_in address = { .sin_family = AF_INET };
	char *colon = strchr(text, ':');
	if (colon) {
		*colon = 0;
		address.sin_port = htons(atoi(colon + 1));
	}
	if (!colon || !inet_aton(text, &address.sin_addr)) {
		fprintf(stderr, "not an address, A.B.C.D:PORT: %s\n", text);
		exit(2);
	}
	return address;
}

/* Listens on the address in the only argument, port 0 for any, and prints the one bound as the first line. Or tells
 * what is measured, for nothing is without that. */
static __attribute__((unused)) int listen_on(int argc, char **argv)
{
	if (argc != 2) {
		fprintf(stderr, "usage: %s 127.0.0.1:PORT | --version\n", argv[0]);
		exit(2);
	}
	if (!strcmp(argv[1], "--version")) {
#ifdef LIBRARY /* and its VERSION */
		printf("%s %s, ", LIBRARY, VERSION);
#endif
		printf("compiled by " COMPILER " " __VERSION__ "\n");
		exit(0);
	}
	struct sockaddr_in address = ipv4(argv[1]);
	socklen_t length = sizeof address;
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
