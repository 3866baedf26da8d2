/* libuv 1: streams, as its guide has them, with what spares a server of short answers work.
 *
 * All connections are read into one buffer, for its content is written before the callback returns: uv_try_write first, and
 * only what the socket does not take is copied and queued, with reading stopped until it is through. An idle connection has no
 * buffer. TCP_NODELAY is handed down by the listener, so uv_tcp_nodelay would be a call for nothing.
 */
#define _GNU_SOURCE
#include <uv.h>

#define LIBRARY "libuv"
#define VERSION uv_version_string()
#include "start.h"

static char buffer[64 * 1024];

struct owed {
	uv_write_t request;
	char bytes[];
};

static void check(int result, const char *what)
{
	if (result < 0) {
		fprintf(stderr, "%s: %s\n", what, uv_strerror(result));
		exit(1);
	}
}

static void give_buffer(uv_handle_t *handle, size_t suggested, uv_buf_t *given)
{
	(void)handle, (void)suggested;
	*given = uv_buf_init(buffer, sizeof buffer);
}

static void on_closed(uv_handle_t *handle)
{
	free(handle);
}

static void finish(uv_stream_t *stream)
{
	if (!uv_is_closing((uv_handle_t *)stream))
		uv_close((uv_handle_t *)stream, on_closed);
}

static void on_read(uv_stream_t *stream, ssize_t length, const uv_buf_t *read);

static void on_written(uv_write_t *request, int status)
{
	uv_stream_t *stream = request->handle;
	free(request); /* the first member of what is owed */
	if (status < 0)
		finish(stream);
	else
		check(uv_read_start(stream, give_buffer, on_read), "uv_read_start");
}

static void on_read(uv_stream_t *stream, ssize_t length, const uv_buf_t *read)
{
	if (length <= 0) {
		if (length < 0) /* an end, or an error; 0 is EAGAIN */
			finish(stream);
		return;
	}
	uv_buf_t all = uv_buf_init(read->base, length);
	int written = uv_try_write(stream, &all, 1);
	if (written == length)
		return;
	if (written < 0 && written != UV_EAGAIN) {
		finish(stream);
		return;
	}
	size_t sent = written < 0 ? 0 : written, rest = length - sent;
	struct owed *owed = malloc(sizeof *owed + rest);
	if (!owed)
		die("malloc");
	memcpy(owed->bytes, read->base + sent, rest);
	uv_buf_t left = uv_buf_init(owed->bytes, rest);
	uv_read_stop(stream);
	check(uv_write(&owed->request, stream, &left, 1, on_written), "uv_write");
}

static void on_connection(uv_stream_t *listener, int status)
{
	check(status, "accept");
	uv_tcp_t *client = malloc(sizeof *client);
	if (!client)
		die("malloc");
	check(uv_tcp_init(listener->loop, client), "uv_tcp_init");
	if (uv_accept(listener, (uv_stream_t *)client) < 0)
		finish((uv_stream_t *)client);
	else
		check(uv_read_start((uv_stream_t *)client, give_buffer, on_read), "uv_read_start");
}

int main(int argc, char **argv)
{
	uv_tcp_t listener;
	int fd = listen_on(argc, argv);
	uv_loop_t *loop = uv_default_loop();
	check(uv_tcp_init(loop, &listener), "uv_tcp_init");
	check(uv_tcp_open(&listener, fd), "uv_tcp_open");
	check(uv_listen((uv_stream_t *)&listener, BACKLOG, on_connection), "uv_listen");
	uv_run(loop, UV_RUN_DEFAULT);
	die("uv_run");
}
